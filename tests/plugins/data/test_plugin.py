"""What the plugin declares, and that declaring it imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys

from hrmctl_data import hrmctl_datasets, hrmctl_stages

from hrmctl.registry import resolve


def test_every_target_is_there() -> None:
    stages = {spec.name: spec for spec in hrmctl_stages()}
    assert stages.keys() == {
        "data.generate",
        "data.sudoku",
        "data.maze",
        "data.get",
        "data.mbpp",
        "data.humaneval",
        "data.jsonl",
        "data.tooluse",
        "data.decontaminate",
        "data.quality",
    } | {f"data.{name}-plus" for name in ("humaneval", "mbpp")}
    for spec in (*stages.values(), *hrmctl_datasets()):
        assert callable(resolve(spec.target))


def test_data_sets_are_pinned() -> None:
    for spec in hrmctl_datasets():
        assert spec.url.startswith("https://")
        assert len(spec.sha256) == 64
        assert spec.licence
        assert all(count > 0 for count in spec.splits.values())


def test_declaring_imports_nothing_heavy() -> None:
    code = (
        "import sys, hrmctl_data\nhrmctl_data.hrmctl_stages()\n"
        "print([m for m in sys.modules if m in ('urllib.request', 'torch', 'ast', 'hrmctl_data.operations')])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout
    assert "urllib" not in done.stdout
    assert "operations" not in done.stdout
