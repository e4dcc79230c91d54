"""Progress on standard error: bars with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from hrmctl.cli.common import say
from hrmctl.events import RunStarted, StageFinished, StageProgress, StageStarted, StageWarned

PLAIN_SECONDS = 10.0
PROVING = "proving contracts"
_Item = TypeVar("_Item")
_MARKS = {"done": "done", "cached": "cached", "failed": "FAILED", "blocked": "BLOCKED", "cancelled": "stopped"}


def make_progress(quiet: bool) -> Any:
    """A listener for a run's events, with `close()`."""
    if quiet:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


def tracked(items: Sequence[_Item], what: str, quiet: bool = False) -> Iterator[_Item]:
    """The items one by one, while it is shown how many are done: a bar on a terminal, elsewhere a line now and then."""
    if sys.stderr.isatty() and not quiet:
        from rich.console import Console
        from rich.progress import track

        yield from track(items, what, console=Console(stderr=True), transient=True)
        return
    said = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - said >= PLAIN_SECONDS and not quiet:
            said = time.monotonic()
            say(f"{what}: {done}/{len(items)}")
        yield item


class Silent:
    """Shows nothing but warnings."""

    def __call__(self, event: Any) -> None:
        if isinstance(event, StageWarned):
            say(warning_line(event))

    def close(self) -> None:
        return


class Lines:
    """One line for each start, end, and at most every ten seconds between."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, event: Any) -> None:
        if isinstance(event, RunStarted):
            say(f"run {event.run}")
        elif isinstance(event, StageStarted) and not event.cached:
            self._said[event.stage] = time.monotonic()
            say(f"{event.stage}: started")
        elif isinstance(event, StageProgress):
            self._progress(event)
        elif isinstance(event, StageWarned):
            say(warning_line(event))
        elif isinstance(event, StageFinished):
            say(finished_line(event))

    def _progress(self, event: StageProgress) -> None:
        if time.monotonic() - self._said.get(event.stage, 0.0) >= PLAIN_SECONDS:
            self._said[event.stage] = time.monotonic()
            say(f"{event.stage}: {event.done}/{event.total}{metrics_text(event)}")

    def close(self) -> None:
        return


class Bars:
    """A rich progress bar for each running stage."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        rate = TextColumn("{task.fields[rate]}", markup=False)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            rate,
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._bars.start()

    def __call__(self, event: Any) -> None:
        if isinstance(event, RunStarted):
            self._bars.console.print(f"run {event.run}", markup=False)
        elif isinstance(event, StageStarted) and not event.cached:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=None, metrics="", rate="")
        elif isinstance(event, StageProgress):
            self._update(event)
        elif isinstance(event, StageWarned):
            self._bars.console.print(warning_line(event), markup=False, highlight=False, soft_wrap=True)
        elif isinstance(event, StageFinished):
            if event.stage in self._tasks:
                self._bars.remove_task(self._tasks.pop(event.stage))
            self._bars.console.print(finished_line(event), markup=False, highlight=False)

    def _update(self, event: StageProgress) -> None:
        task = self._tasks[event.stage]
        self._bars.update(task, completed=event.done, total=event.total, metrics=metrics_text(event).strip())
        speed = self._bars.tasks[self._bars.task_ids.index(task)].speed
        self._bars.update(task, rate=f"{speed:.1f}/s" if speed else "")

    def close(self) -> None:
        self._bars.stop()


def metrics_text(event: StageProgress) -> str:
    """The first few metrics in short."""
    return "".join(f"  {name} {value:.4g}" for name, value in list(event.metrics.items())[:4])


def warning_line(event: StageWarned) -> str:
    """What a stage warns of."""
    return f"{event.stage}: warning: {event.text}"


def finished_line(event: StageFinished) -> str:
    """How a stage ended; of several faults each on a line of its own."""
    seconds = f" in {event.seconds:.1f} s" if event.status == "done" else ""
    faults = event.error.split("\n") if event.error else []
    between = ": " if len(faults) == 1 else "\n  "
    return between.join([f"{event.stage}: {_MARKS[event.status]}{seconds}", *faults])
