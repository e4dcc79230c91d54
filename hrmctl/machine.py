"""What this machine is and has; part of every piece of evidence."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

_TOOLS = ("hrmctl", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")


@cache
def tools() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on, where they are installed."""
    found = {"python": platform.python_version()}
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def hardware() -> dict[str, str]:
    """System, processor, cores and memory (GiB) of this machine; no host name."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(cores()),
        "memory_gib": f"{_memory_bytes() / 2**30:.1f}",
    }


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def has(need: str) -> bool:
    """Whether the machine has `cuda` or `mps`; asked of the system, without importing torch."""
    if need == "cuda":
        return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
    if need == "mps":
        return sys.platform == "darwin" and platform.machine() == "arm64"
    return False
