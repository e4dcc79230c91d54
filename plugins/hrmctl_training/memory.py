"""Peak memory of this process, sampled beside the work."""

from __future__ import annotations

import re
import resource
import sys
import threading
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")
_INTERVAL = 0.1


def anonymous_bytes() -> int:
    """Anonymous resident memory (mapped files do not count); elsewhere than on Linux the peak resident size so far."""
    if _STATUS.is_file():
        found = re.search(r"^RssAnon:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class PeakMemory:
    """Samples memory ten times a second until it is closed; `peak` in bytes, `samples` the number taken."""

    def __init__(self) -> None:
        self.peak = 0
        self.samples = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def sample(self) -> None:
        """Take one sample now."""
        self.peak = max(self.peak, anonymous_bytes())
        self.samples += 1

    def include(self, peak: int, samples: int) -> None:
        """Count what an earlier attempt at the same work measured."""
        self.peak = max(self.peak, peak)
        self.samples += samples

    def _poll(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self.sample()

    def __enter__(self) -> PeakMemory:
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.sample()
