"""A teacher trained once for all tests of `distill`."""

from __future__ import annotations

import pytest
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.stage import run

from hrmctl import Artifact
from hrmctl.testing import make_artifact, make_context
from tests.plugins.distill.helpers import write_rows


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A GPT-2 that writes what the rows say."""
    folder = tmp_path_factory.mktemp("teacher")
    data = write_rows(folder / "data.jsonl")
    params = FinetuneParams(init="gpt2-micro", steps=90, batch=12, lr=6e-3, vocab_size=290, max_length=64)
    result = run(params, {"data": (data,)}, make_context(folder))
    return make_artifact(result.artifacts["model"].path, "model", "teacher")
