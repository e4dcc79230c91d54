"""The command `hrmctl forecast`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hrmctl.cli.common import DEFAULT_STORE, JsonOption, RunArgument, StoreOption, pick_run, print_json, say

if TYPE_CHECKING:
    from hrmctl_statistics.predict import Forecast

    from hrmctl_forecast.reading import Stage, Target

_REFUSED = 3
_FORMULAS = {"constant": "a", "exponential": "a + b·exp(-c·t)", "power": "a + b·(t + t0)^-c"}


def forecast(
    run: RunArgument = None,
    stage: Annotated[str | None, typer.Option(help="The stage; the only one with these metrics if not given.")] = None,
    metric: Annotated[str, typer.Option(help="The metric, where no --target names another.")] = "loss",
    to: Annotated[
        int | None,
        typer.Option(min=1, help="The step asked about.", show_default="the planned last step, or twice those done"),
    ] = None,
    to_epoch: Annotated[float | None, typer.Option(min=0, help="The epoch asked about, instead of --to.")] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", help="METRIC=VALUE, METRIC<=VALUE, METRIC>=VALUE or a value of --metric; repeatable."),
    ] = None,
    level: Annotated[float, typer.Option(min=0.01, max=0.999, help="Probability of the intervals.")] = 0.9,
    better: Annotated[
        Literal["auto", "lower", "higher"],
        typer.Option(help="What is better; auto: lower for losses and perplexities."),
    ] = "auto",
    draws: Annotated[int, typer.Option(min=100, max=100_000, help="Draws of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Fit a run's training curves and say where they will be, with intervals.

    Exit code: 0 forecast, 2 bad input, 3 no forecast: under 8 points, or a curve that is getting worse.
    """
    from hrmctl_statistics import predict

    from hrmctl.errors import InputError
    from hrmctl.run.record import metric_rows
    from hrmctl.store import Store
    from hrmctl_forecast import reading

    if to is not None and to_epoch is not None:
        raise InputError("--to and --to-epoch both say when; give one")
    wanted = [reading.target_of(text, metric, better) for text in targets or []]
    metrics = list(dict.fromkeys(target.metric for target in wanted)) or [metric]
    opened = Store(store)
    chosen = pick_run(opened, run)
    found = reading.pick_stage(chosen, metric_rows(opened.run_folder(chosen)), stage, metrics)
    curves = [found.curve(name, better) for name in metrics]
    short = [curve for curve in curves if len(curve.steps) < predict.LEAST]
    if short:
        count = len(short[0].steps)
        said = f"{short[0].metric} of stage {found.name} in run {chosen} has {count} point{'s' * (count != 1)}"
        say(f"hrmctl: {said}; a forecast needs {predict.LEAST}")
        return _REFUSED
    step = _step(found, to, to_epoch)
    forecasts = predict.predict(curves, step, draws, seed)
    result = _result(chosen, found, step, level, (draws, seed), forecasts, wanted)
    print_json(result) if as_json else _show(result)
    return _REFUSED if any(one.course == "worsening" for one in forecasts) else 0


def _step(stage: Stage, to: int | None, to_epoch: float | None) -> int:
    """The step asked about: the planned last one, or twice those done where it has been reached."""
    from hrmctl.errors import InputError

    if to_epoch is not None:
        if stage.epoch is None:
            raise InputError(f"stage {stage.name} does not report its epochs; give --to STEP")
        to = round(to_epoch * stage.epoch)
    if to is None:
        return stage.total if stage.total > stage.last else 2 * stage.last
    if to <= stage.last:
        raise InputError(
            f"step {to} has been measured: stage {stage.name} is at step {stage.last}; ask for a later one"
        )
    return to


def _result(
    run: str,
    stage: Stage,
    step: int,
    level: float,
    drawn: tuple[int, int],
    forecasts: Sequence[Forecast],
    targets: Sequence[Target],
) -> dict[str, Any]:
    """The result as `--json` prints it (docs/forecast.md)."""
    from hrmctl_statistics.predict import probabilities

    by_name = {one.curve.metric: one for one in forecasts}
    known = all(one.course != "worsening" for one in forecasts)
    joint = probabilities([t.met(by_name[t.metric].draws) for t in targets]) if targets and known else None
    each: Sequence[float | None] = joint.each if joint else [None] * len(targets)
    return {
        "run": run,
        "stage": stage.name,
        "step": step,
        "epoch": step / stage.epoch if stage.epoch else None,
        "level": level,
        "draws": drawn[0],
        "seed": drawn[1],
        "metrics": [_metric(one, level) for one in forecasts],
        "targets": [
            {"metric": t.metric, "op": t.op, "value": t.value, "probability": p}
            for t, p in zip(targets, each, strict=True)
        ],
        "joint_probability": joint.together if joint else None,
    }


def _metric(one: Forecast, level: float) -> dict[str, Any]:
    interval = None
    if len(one.draws):
        interval = dict(zip(("value", "low", "high"), one.interval(level), strict=True))
    return {
        "metric": one.curve.metric,
        "points": len(one.curve.steps),
        "fitted_points": one.groups,
        "fitted_from": one.start,
        "last_step": int(one.curve.steps[-1]),
        "last_value": float(one.curve.values[-1]),
        "course": one.course,
        "family": one.family,
        "parameters": dict(one.parameters),
        "held_out_errors": dict(one.errors),
        "noise": one.noise,
        "forecast": interval,
    }


def _show(result: dict[str, Any]) -> None:
    epoch = f" (epoch {result['epoch']:.4g})" if result["epoch"] else ""
    say(f"run {result['run']}, stage {result['stage']}: forecast for step {result['step']}{epoch}")
    for one in result["metrics"]:
        _show_metric(one, result["level"])
    for target in result["targets"]:
        sign = "<=" if target["op"] == "le" else ">="
        _show_probability(f"{target['metric']} {sign} {target['value']:g}", target["probability"])
    if len(result["targets"]) > 1:
        _show_probability("all of them", result["joint_probability"])
    sys.stdout.flush()


def _show_metric(one: dict[str, Any], level: float) -> None:
    name, last = one["metric"], f"{one['last_value']:.4g} at step {one['last_step']}"
    parameters = ", ".join(f"{key} {value:.4g}" for key, value in one["parameters"].items())
    errors = ", ".join(f"{key} {value:.3g}" for key, value in one["held_out_errors"].items())
    formula = f"{_FORMULAS[one['family']]} ({parameters}) from step {one['fitted_from']:.0f} on"
    say(f"{name}: {one['points']} points, {last}; fitted {formula}")
    say(f"{name}: errors on the held-out end: {errors}")
    if one["forecast"] is None:
        print(f"{name}: getting worse over the last third of its points; no improvement is forecast")
        return
    if one["course"] == "flat":
        say(f"{name}: flat; what is still to come is less than the noise of its points ({one['noise']:.3g})")
    found = one["forecast"]
    print(f"{name}: {found['value']:.4g} [{found['low']:.4g}, {found['high']:.4g}] at {100 * level:g} %")


def _show_probability(what: str, probability: float | None) -> None:
    print(f"P({what}): {'no forecast' if probability is None else f'{probability:.4f}'}")
