"""Which shared libraries this process has loaded, and which of them are CUDA's."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_CUDA = re.compile(
    r"lib(cuda|cudart|cublas|cublasLt|cudnn|cufft|curand|cusolver|cusparse|nccl|nvrtc|nvJitLink|torch_cuda)\b"
)


def loaded_libraries() -> list[str]:
    """Paths of the shared libraries in this process, sorted; empty on a system that does not tell."""
    if sys.platform == "darwin":
        system = ctypes.CDLL(None)
        system._dyld_get_image_name.restype = ctypes.c_char_p
        names = (system._dyld_get_image_name(index) for index in range(system._dyld_image_count()))
        return sorted({name.decode() for name in names if name})
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return []
    paths = (line.split(maxsplit=5)[-1].strip() for line in maps.read_text().splitlines() if "/" in line)
    return sorted({path for path in paths if ".so" in Path(path).name})


def of_cuda(libraries: list[str]) -> list[str]:
    """Those that are CUDA's, or torch's for CUDA."""
    return [path for path in libraries if _CUDA.match(Path(path).name)]
