"""The plugin's door: what it registers, what it documents, what it costs to import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hrmctl_statistics
import pytest
from hrmctl_statistics.params import CurveTarget, ForecastParams, OutcomeParams, ProgressParams

from hrmctl import Evidence, schema
from hrmctl.registry import resolve

from .evidence import curve, listing, measured, samples

SPECS = {spec.name: spec for spec in hrmctl_statistics.hrmctl_measures()}
DOCS = Path(__file__).parents[3] / "docs" / "statistics.md"
TRIALS = [1.0, 2.0, 3.0, 4.0, 5.0]

PARAMS = {
    "outcome_rate": OutcomeParams("passed"),
    "progress_to_target": ProgressParams(target=0.5),
    "forecast_at": ForecastParams(to=40, targets=(CurveTarget("loss", 0.5),), draws=100),
}


def named(**curves: list[float]) -> Evidence:
    series = {name: {"steps": list(range(1, len(values) + 1)), "values": values} for name, values in curves.items()}
    return Evidence("series", "series/v1", {"series": series})


EPOCHS = named(loss=[1 + 1 / i + 0.01 * (i % 3) for i in range(1, 61)], epoch=[i / 4 for i in range(1, 61)])

EXAMPLES = {
    "value": [measured(3, trials=[3, 4])],
    "ratio": [measured(3.0, trials=TRIALS), measured(3.0, trials=TRIALS)],
    "difference": [measured(3.0, trials=TRIALS), measured(3.0, trials=TRIALS)],
    "chance": [measured(512)],
    "pass_at_k": [samples([1, 0])],
    "pass_rate": [samples([1, 0])],
    "paired_delta": [samples([1, 0, 1]), samples([0, 0, 1])],
    "clustered_delta": [(samples([1, 0, 1]), samples([1, 1, 0])), (samples([0, 0, 1]), samples([0, 1, 1]))],
    "clustered_ratio": [(measured(3.0), measured(4.0)), (measured(2.0), measured(2.0))],
    "outcome_rate": [samples([1, 0], outcomes=True)],
    "distinct": [samples([0], n=2)],
    "mode": [samples([1], mode="seccomp")],
    "series": [curve([float(i + 1) for i in range(20)])],
    "slope": [curve([float(i % 3) for i in range(20)])],
    "clustered_slope": [(curve([float(i) for i in range(20)]), curve([2.0 * i for i in range(20)]))],
    "all_finite": [curve([1.0])],
    "progress_to_target": [EPOCHS],
    "plateau": [EPOCHS],
    "forecast_at": [EPOCHS],
    "norm_deviation": [named(a=[1.0], b=[2.0], result=[3.0])],
    "sign_conflicts": [named(elements=[4], sum=[3], result=[1])],
    "same_samples": [samples([0], n=2)],
    "holm": [samples([1, 0]), samples([0, 0])],
    "per": [measured(4, "tokens"), measured(2, "seconds")],
    "overlap": [measured(0.5, "share of documents", 4)],
    "attempts": [Evidence("attempts", "measurement/v1", {"value": 1, "unit": "attempts", "n": 1})],
    "total_bytes": [listing(a=1)],
    "count": [listing(a=1)],
}
for _name in ("distinct", "same_samples"):
    EXAMPLES[_name][0].payload["problems"][0]["completions"] = ["a", "b"]


def test_every_measure_has_an_example():
    assert EXAMPLES.keys() == SPECS.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_measure_returns_exactly_the_fields_it_documents(name):
    spec = SPECS[name]
    params = PARAMS.get(name) or spec.params()
    found = resolve(spec.target)(EXAMPLES[name], params)
    assert set(found) == set(spec.returns)
    assert all(isinstance(v, (int, float, str)) for v in found.values())
    assert spec.arity[0] <= len(EXAMPLES[name]) <= spec.arity[1]
    first = EXAMPLES[name][0]
    assert isinstance(first, tuple) == spec.by_seed
    assert (first[0] if isinstance(first, tuple) else first).type in spec.accepts


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_parameter_is_documented(name):
    assert all(field.doc for field in schema.fields_of(SPECS[name].params))
    assert schema.json_schema(SPECS[name].params)["additionalProperties"] is False


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_measure_and_field_has_its_place_in_the_docs(name):
    section = DOCS.read_text(encoding="utf-8").partition(f"## `{name}`")[2].partition("\n## ")[0]
    words = [*SPECS[name].returns, *(f.name for f in schema.fields_of(SPECS[name].params))]
    assert [word for word in words if f"`{word}`" not in section] == []


def test_no_measure_is_documented_that_is_not_there():
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    assert {line.removeprefix("## `").rstrip("`") for line in lines if line.startswith("## `")} == SPECS.keys()


def test_the_plugin_loads_without_numpy_and_measures_without_scipy_stats():
    script = """
import sys
import hrmctl_statistics
assert hrmctl_statistics.hrmctl_measures()
assert not {"numpy", "scipy", "torch"} & set(sys.modules)
from hrmctl import Evidence
from hrmctl_statistics import params
from hrmctl_statistics.samples import paired_delta, pass_at_k
def samples(*passed):
    rows = [{"id": f"t/{i}", "n": 1, "c": c} for i, c in enumerate(passed)]
    return Evidence("samples", "samples/v1", {"problems": rows})
pass_at_k([samples(1, 0)], params.PassAtKParams())
paired_delta([samples(1, 0), samples(0, 0)], params.PairedDeltaParams())
assert "scipy.special" in sys.modules
assert not {"scipy.stats", "torch"} & set(sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
