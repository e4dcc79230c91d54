"""The tutorial of docs/contracts.md, line by line: what it says to write is written, what it says to run is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .lab import command, hrmctl

BLOCK = re.compile(r"^```(yaml|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"hrmctl (.+?)\s+# exit (\d): (.+)")


def test_the_first_contract(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (root / "docs/contracts.md").read_text()
    lesson = text.partition("## Your first contract in five minutes")[2].partition("\n## ")[0]
    monkeypatch.delenv("HRMCTL_STORE", raising=False)
    ran = []
    for kind, body in BLOCK.findall(lesson):
        if kind == "yaml":
            _write(tmp_path, body)
            continue
        for line in body.splitlines():
            match = LINE.fullmatch(line)
            assert match, f"not `hrmctl … # exit N: what it says`: {line}"
            words = match[1].split()
            # A process of its own where plugins are looked for beside a relative path, which a process does once.
            run = hrmctl if words[0] == "pipeline" else command
            done = run(*words, cwd=tmp_path, check=int(match[2]))
            assert match[3] in done.stdout + done.stderr, done.stdout + done.stderr
            ran.append(match[1])
    assert len(ran) == 7


def _write(folder: Path, body: str) -> None:
    """Write, or with `# + FILE` append to, the file that the first line names."""
    head, _, rest = body.partition("\n")
    name = head.removeprefix("# ").removeprefix("+ ")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(path.read_text() + rest if head.startswith("# + ") else body)
