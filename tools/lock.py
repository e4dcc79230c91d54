"""Write requirements.lock: every package but torch, for every platform, with hashes.

torch is pinned in the Makefile and left out here, with the CUDA libraries that only its CUDA build
needs: which build is right depends on the machine (see install_torch.py).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

LEFT_OUT = re.compile(r"(torch|triton|cuda-\w+|nvidia-[\w-]+)==")
PINS = ["transformers==5.23.0"]
HEADER = "# Made by `make lock`. torch is pinned in the Makefile.\n"


def main(torch: str) -> None:
    """Resolve with uv and write the lock without what belongs to torch's build."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join([torch, *PINS]))
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "pyproject.toml",
            "--quiet",
            "--universal",
            "--python-version",
            "3.11",
            "--extra",
            "torch",
            "--extra",
            "peft",
            "--extra",
            "dev",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
            "-c",
            str(constraints),
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    entries = re.split(r"\n(?=\S)", text.strip())
    kept = [entry for entry in entries if not LEFT_OUT.match(entry)]
    Path("requirements.lock").write_text(HEADER + "\n".join(kept) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
