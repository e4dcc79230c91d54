"""`hrmctl pipeline`: run a recipe, judge its contracts, write ledger and report."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrmctl.cli.common import DEFAULT_STORE, JsonOption, StoreOption, print_json, print_table, say

if TYPE_CHECKING:
    from hrmctl.recipe import Plan
    from hrmctl.run.execute import RunOptions
    from hrmctl.store import Store


def register(app: typer.Typer) -> None:
    app.command("pipeline")(pipeline)


def pipeline(
    recipe: Annotated[Path, typer.Argument(help="The recipe to run.")],
    plan: Annotated[bool, typer.Option("--plan", help="Show what would run and why; run nothing.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. vars.steps=100. Repeatable.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run this stage and what it needs, check nothing.")] = None,
    from_: Annotated[list[str] | None, typer.Option("--from", help="Run again from this stage on.")] = None,
    resume: Annotated[str | None, typer.Option(help="Continue the run of this id.")] = None,
    keep_going: Annotated[bool, typer.Option(help="Run what does not depend on a failed stage.")] = False,
    executor: Annotated[str, typer.Option(help="Where stages run.")] = "local",
    tracker: Annotated[list[str] | None, typer.Option(help="Mirror the metrics there. Repeatable.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads that stages may use together.")] = None,
    profile: Annotated[str, typer.Option(help="A contract profile, e.g. kpi.")] = "",
    no_check: Annotated[bool, typer.Option("--no-check", help="Run the stages and judge nothing.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Run a recipe: its stages, then its contracts.

    Exit code: 0 all hold (with --no-check: all stages ran), 1 a FAIL, 2 bad input, 3 something is not proven,
    4 a stage failed, 130 interrupted.
    """
    from hrmctl.plugins import catalog as load_catalog
    from hrmctl.recipe import make_plan, read_recipe
    from hrmctl.run.pipeline import PipelineOptions, prepare, run_pipeline
    from hrmctl.store import Store

    opened = Store(store)
    settings = _settings(opened, resume, set_ or [])
    catalog = load_catalog(recipe.parent)
    made = make_plan(read_recipe(recipe, settings), catalog)
    options = PipelineOptions(
        settings=settings,
        only=_cells(made, only or []),
        force=_cells(made, from_ or []),
        resume=resume,
        keep_going=keep_going,
        executor=executor,
        trackers=tracker or [],
        device=device,
        jobs=jobs,
        profile=profile,
        judge=not no_check,
        argv=sys.argv[1:],
    )
    if plan:
        return _show_plan(made, catalog, opened, prepare(made, catalog, opened, options).options, as_json)
    return _run(made, catalog, opened, options, as_json, run_pipeline)


def _run(plan: Plan, catalog: Any, store: Store, options: Any, as_json: bool, run_pipeline: Any) -> int:
    from hrmctl.cli.progress import make_progress
    from hrmctl.cli.show import show_check

    progress = make_progress(quiet=as_json)
    try:
        result = run_pipeline(plan, catalog, store, options, progress)
    finally:
        progress.close()
    if as_json:
        print_json(result)
    elif result.check is not None:
        show_check(catalog, store, result.check, "table")
    for line in result.notes:
        say(line)
    return int(result.exit_code)


def _settings(store: Store, resume: str | None, given: list[str]) -> list[str]:
    """A resumed run keeps the settings that it was started with."""
    if resume is None:
        return given
    from hrmctl.run.record import read_lock

    return given or list(read_lock(store.run_folder(resume))["settings"])


def _cells(plan: Plan, names: list[str]) -> frozenset[str]:
    """Ids of the planned stages (all cells) that the user named. Raises InputError."""
    from hrmctl.errors import InputError
    from hrmctl.yamlio import suggest

    found: set[str] = set()
    for name in names:
        cells = {s.id for s in plan.stages if name in (s.id, s.name)}
        if not cells:
            raise InputError(f"no stage '{name}'; {suggest(name, [s.name for s in plan.stages])}")
        found |= cells
    return frozenset(found)


def _show_plan(plan: Plan, catalog: Any, store: Store, options: RunOptions, as_json: bool) -> int:
    """What a run with these options would do."""
    from hrmctl.recipe.status import plan_status
    from hrmctl.run.record import latest_lock

    last = latest_lock(store, plan.recipe.entry.name)
    chosen = [s for s in plan.stages if options.only is None or s.id in options.only]
    lines = plan_status(replace(plan, stages=chosen), catalog, store, last, options.force, options.device)
    if as_json:
        print_json(
            [
                {
                    "stage": s.stage.id,
                    "uses": s.stage.spec.name,
                    "parents": s.stage.parents,
                    "cached": s.cached,
                    "reason": s.reason,
                }
                for s in lines
            ]
        )
        return 0
    rows = [
        (s.stage.id, s.stage.spec.name, ", ".join(s.stage.parents) or "-", "cached" if s.cached else "run", s.reason)
        for s in lines
    ]
    print_table(rows, ("stage", "uses", "after", "", "why"))
    return 0
