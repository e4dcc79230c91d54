"""What the reference of a benchmark answers: it runs in the sandbox, as any program of a file does."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from .. import probe
from ..channel import Stop
from ..model import Limits, SandboxUnavailable
from ..sandbox import Sandbox, SandboxDied

_LIMITS = Limits(cpu_seconds=120, wall_seconds=600, memory_bytes=4 << 30, output_bytes=256 << 20)
_ALL = "_answers_of_the_reference"
_DRIVER = f"""

def {_ALL}(entry_point, inputs):
    copy = __import__("copy").deepcopy
    return [globals()[entry_point](*copy(arguments)) for arguments in inputs]
"""


class Unanswered(ValueError):
    """A reference did not come to its answers; the message says why."""


class References:
    """Runs references, one after the other, in one sandbox that is started when it is first needed.

    Use as a context manager. Raises SandboxUnavailable where programs cannot be contained.
    """

    def __init__(self) -> None:
        self._sandbox: Sandbox | None = None

    def __enter__(self) -> References:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sandbox is not None:
            self._sandbox.close()

    def answers(self, program: str, entry_point: str, inputs: list[list[Any]]) -> list[Any]:
        """What the program's `entry_point` returns for each list of arguments, rebuilt as builtin types.

        The program gets copies, so that `inputs` stay what they are where it changes its arguments.
        Raises Unanswered where it raises, is over 120 s of CPU time, 4 GiB or 256 MiB of answers.
        """
        if self._sandbox is None:
            self._sandbox = _started()
        session = self._sandbox.open()
        try:
            provided = session.load(program + _DRIVER, "", [_ALL], [])
            found = provided[_ALL](entry_point, inputs)
        except SandboxDied:
            self._sandbox.replace()
            raise Unanswered("the sandbox died") from None
        except Stop as stop:
            raise Unanswered(f"{stop.detail or stop.error.value} (it may use 120 s of CPU time and 4 GiB)") from None
        except Exception as error:
            raise Unanswered(f"{type(error).__name__}: {error}") from None
        finally:
            self._end(session)
        if type(found) is not list or len(found) != len(inputs):
            raise Unanswered("not one answer for each input")
        return found

    def _end(self, session: Any) -> None:
        assert self._sandbox is not None
        try:
            self._sandbox.close_session(session)
        except SandboxDied:
            self._sandbox.replace()


def _started() -> Sandbox:
    found = probe()
    if not found.acceptable:
        lacking = ", ".join(found.missing)
        raise SandboxUnavailable(
            f"the references of this benchmark cannot be contained here (missing: {lacking}). {found.remedy}"
        )
    return Sandbox(_LIMITS)
