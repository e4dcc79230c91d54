"""What this machine's kernel offers, found without the package's own reports."""

from __future__ import annotations

import functools
import os

from hrmctl_sandbox import kernel, landlock, seccomp


@functools.cache
def namespaces_work() -> bool:
    """Whether this process may make namespaces and mount in them."""
    child = os.fork()
    if child == 0:
        try:
            kernel.unshare(sum(kernel.NAMESPACES.values()))
            kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def offers() -> set[str]:
    """The defining layers that this kernel can give."""
    found = {"seccomp": seccomp.supported(), "landlock": landlock.abi() > 0, "namespaces": namespaces_work()}
    return {name for name, offered in found.items() if offered}
