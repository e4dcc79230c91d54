"""`self_test`: planted corruptions are refused, each for its own reason, and a check that is broken is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hrmctl_import.examine
import pytest
from hrmctl_import import planted
from hrmctl_import.params import ImportParams
from hrmctl_import.stage import run

from hrmctl.contract.payload import fault
from hrmctl.store import content_digest
from hrmctl.testing import make_artifact, make_context

COUNT = len(planted.CORRUPTIONS)


def refusals(folder: Path, tmp_path: Path) -> dict[str, Any]:
    before = content_digest(folder)
    inputs = {"folder": make_artifact(folder, "model", "m")}
    result = run(ImportParams(self_test=True), inputs, make_context(tmp_path))
    assert content_digest(folder) == before, "the corruptions are planted in a copy"
    assert not (tmp_path / "scratch" / "planted").exists()
    (found,) = [dict(o.payload) for o in result.evidence if o.name == "corruptions_refused"]
    assert fault("measurement/v1", found) == ""
    return found


@pytest.mark.parametrize("family", ["hrm-tiny", "gpt2-micro", "qwen2-tiny", "llama-tiny"])
def test_every_corruption_is_refused_for_its_own_reason(
    family: str, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    found = refusals(copy(family), tmp_path)
    assert (found["value"], found["n"]) == (COUNT, COUNT), found["context"]
    assert len(set(found["context"].values())) == COUNT


def test_of_several_shards_one_is_corrupted(sharded: Path, tmp_path: Path) -> None:
    found = refusals(sharded, tmp_path)
    assert (found["value"], found["n"]) == (COUNT, COUNT), found["context"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_weights_of_any_precision(dtype: str, copy: Callable[[str], Path], tmp_path: Path) -> None:
    import torch
    from hrmctl_models import load

    folder = copy("gpt2-micro")
    load(folder, device="cpu").model.to(getattr(torch, dtype)).save_pretrained(folder)
    found = refusals(folder, tmp_path)
    assert (found["value"], found["n"]) == (COUNT, COUNT), found["context"]


def test_a_check_that_sees_nothing_is_found_out(
    copy: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hrmctl_import.examine, "nonfinite_values", lambda *_: {})
    found = refusals(copy("qwen2-tiny"), tmp_path)
    assert found["value"] == COUNT - 1
    assert found["context"]["NaN in a tensor"] == ""


def test_without_it_nothing_is_claimed(copy: Callable[[str], Path], tmp_path: Path) -> None:
    inputs = {"folder": make_artifact(copy("qwen2-tiny"), "model", "m")}
    names = {seen.name for seen in run(ImportParams(), inputs, make_context(tmp_path)).evidence}
    assert "corruptions_refused" not in names
