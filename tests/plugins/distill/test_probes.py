"""Probes in `distill`: the student is asked, and its training does not notice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hrmctl_distill.params import DistillParams

from hrmctl import Artifact, InputError
from tests.plugins.distill.helpers import ROWS, curve, distill, observed, weights, write_rows

PARAMS = DistillParams(init="gpt2-micro", steps=4, batch=6, max_length=64, sample_interval=2, sample_problems=3)
PLAIN = DistillParams(init="gpt2-micro", steps=4, batch=6, max_length=64)


def test_the_student_is_probed_and_ends_with_the_same_weights(tmp_path: Path, teacher: Artifact) -> None:
    validation = write_rows(tmp_path / "v.jsonl", ROWS[::5], "tiny@validation")
    probed, _ = distill(tmp_path / "probed", PARAMS, teacher=teacher, validation=validation)
    plain, _ = distill(tmp_path / "plain", PLAIN, teacher=teacher, validation=validation)
    series = observed(probed)["training"].payload["series"]
    assert series["sample_exact"]["steps"] == series["sample_syntax"]["steps"] == [2, 4]
    # The teacher knows these rows; a student of four steps does not.
    assert curve(probed, "sample_exact") == [0, 0]
    assert weights(probed) == weights(plain)


def test_a_probe_without_validation_rows_is_refused(tmp_path: Path, teacher: Artifact) -> None:
    with pytest.raises(InputError, match="sample_interval probes validation rows"):
        distill(tmp_path, PARAMS, teacher=teacher)
