"""A process beside the first: `python -m hrmctl_training.rank IN OUT PARENT`, two pipes and who started it."""

from __future__ import annotations

import logging
import os
import pickle
import random
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from hrmctl import HrmctlError
from hrmctl.registry import resolve
from hrmctl_training.channel import Channel
from hrmctl_training.group import Broken, Finished, Follower
from hrmctl_training.ranks import FOLLOWER, Setting, note_of


@dataclass
class RankContext:
    """The `Context` of such a process: the first one's scratch folder, and nobody to report to."""

    scratch: Path
    seed: int
    device: str
    threads: int
    log: logging.Logger
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def progress(self, done: int, total: int, **metrics: float) -> None:
        """The first process reports."""

    def check(self) -> None:
        """The first process is cancelled, and tells the others to end."""


def main(incoming: int, outgoing: int, parent: int) -> int:
    """Run the call that comes first, as far as the end of its training."""
    _die_with(parent)
    # What ends all processes at once lets the first one save, for which it needs the others.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    os.set_inheritable(incoming, False)
    os.set_inheritable(outgoing, False)
    channel = Channel(incoming, outgoing)
    setting: Setting = pickle.loads(channel.receive())
    log = logging.getLogger(f"process {setting.rank + 1}")
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        _run(setting, channel, log)
    except Finished:
        return 0
    except EOFError:
        return 1
    except Broken as error:
        log.error("%s", error)
    except BaseException as error:
        traceback.print_exc()
        with suppress(OSError):
            note_of(setting.folder, setting.rank).write_text(_line(error), "utf-8")
    return 1


def _run(setting: Setting, channel: Channel, log: logging.Logger) -> None:
    device = torch.device(setting.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    FOLLOWER.set(Follower(setting.rank, setting.size, device, channel, setting.folder))
    call = setting.call
    context = RankContext(setting.scratch, setting.seed, setting.device, setting.threads, log)
    resolve(call.target)(call.params, call.inputs, context)


def _line(error: BaseException) -> str:
    if isinstance(error, HrmctlError):
        return "; ".join(str(problem) for problem in error.problems)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _die_with(parent: int) -> None:
    """On Linux the kernel ends this process when the first one is killed; elsewhere its pipes do, at the next step."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the first process is gone")


if __name__ == "__main__":
    code = main(*map(int, sys.argv[1:4]))
    sys.stdout.flush()
    sys.stderr.flush()
    # What torch.distributed holds is the system's to free; its threads may wait for members that are gone.
    os._exit(code)
