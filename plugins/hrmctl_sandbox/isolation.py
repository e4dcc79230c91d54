"""From the layers that stand to the mode that is reported, and what to do about the ones that do not."""

from __future__ import annotations

import sys

from .model import Isolation

_REMEDIES = {
    "sandbox-exec": "restore /usr/bin/sandbox-exec",
    "seccomp": "run on a kernel with seccomp filters (x86-64 or arm64)",
    "landlock": "run on Linux 5.13 or later with landlock in the kernel's lsm= list",
    "namespaces": "allow user namespaces (sysctl user.max_user_namespaces above 0 and"
    " kernel.apparmor_restrict_unprivileged_userns=0; in a container: --security-opt seccomp=unconfined)",
}
_DEFINING = ("seccomp", "namespaces", "landlock")


def assess(layers: list[str], missing: list[str], escaped: list[str]) -> Isolation:
    """The isolation given by the layers that stand and the canaries that escaped."""
    lacking = [*missing, *(f"canary:{name}" for name in escaped)]
    absent = () if "cgroup" in layers or sys.platform != "linux" else ("cgroup",)
    return Isolation(_mode(layers, escaped), tuple(layers), tuple(lacking), _remedy(lacking), absent)


def unavailable(reason: str) -> Isolation:
    """The isolation of a machine on which no sandbox starts."""
    return Isolation("unavailable", (), _DEFINING, reason)


def _mode(layers: list[str], escaped: list[str]) -> str:
    if escaped:
        return "unsafe"
    if sys.platform == "darwin":
        return "confined-macos" if "sandbox-exec" in layers else "unsafe"
    if "seccomp" not in layers:
        return "unsafe"
    files = ("namespaces" in layers) + ("landlock" in layers)
    return ("unsafe", "confined", "sealed")[files]


def _remedy(missing: list[str]) -> str:
    return "; ".join(f"{name}: {_REMEDIES[name]}" for name in _REMEDIES if name in missing)
