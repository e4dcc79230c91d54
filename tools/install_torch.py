"""Install the CPU build of the pinned torch: `python tools/install_torch.py torch==2.13.0`.

On Linux PyPI's torch brings gigabytes of CUDA libraries. So ask pip first which file it would take:
where that is a CPU build already (macOS, Windows, a local wheel or mirror) take it, else take it
from PyTorch's own index of CPU builds. Set HRMCTL_TORCH_INDEX to use another index, e.g. one with
CUDA builds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def installed(requirement: str) -> bool:
    """Whether the pinned version is there already."""
    name, _, version = requirement.partition("==")
    try:
        return metadata.version(name).partition("+")[0] == version
    except metadata.PackageNotFoundError:
        return False


def brings_cuda(requirement: str) -> bool:
    """Whether pip's own choice on this machine would be a CUDA build."""
    command = [*PIP, "install", "--quiet", "--dry-run", "--no-deps", "--report", "-", requirement]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    chosen = json.loads(answer.stdout)["install"]
    needs = [need for item in chosen for need in item["metadata"].get("requires_dist", [])]
    local = any("+cpu" in item["metadata"]["version"] for item in chosen)
    return sys.platform == "linux" and not local and any(n.startswith(("nvidia", "cuda")) for n in needs)


def main(requirement: str) -> None:
    """Install `requirement` from where its CPU build is."""
    if installed(requirement):
        return
    index = os.environ.get("HRMCTL_TORCH_INDEX", "")
    if not index and brings_cuda(requirement):
        index = CPU_INDEX
    source = ["--index-url", index] if index else []
    subprocess.run([*PIP, "install", "--quiet", "--no-deps", *source, requirement], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
