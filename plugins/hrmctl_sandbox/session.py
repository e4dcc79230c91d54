"""The judge's side of the pipe: one program being called, its time measured, its answers checked."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from . import wire
from .channel import Channel, Stop, violation
from .codec import Decoder, Encoder, Malformed
from .exceptions import describe, rebuild
from .model import ErrorClass
from .proxy import Handle, number_of


class Mispredicted(Stop):
    """The tests made another call than predicted: the program must be run again, without predictions."""

    def __init__(self) -> None:
        super().__init__(ErrorClass.REFUSED, "the calls of the tests differ from run to run")


@dataclass
class Prediction:
    """A call that the tests are expected to make: the name called and its encoded arguments.

    `text` is all of it, to the last bit: 1, 1.0 and True are equal but not the same.
    """

    name: str
    arguments: list[Any]
    keywords: list[Any]
    identity: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        self.text = wire.dumps((self.name, self.arguments, self.keywords))


@dataclass(frozen=True)
class TestsRun:
    """What a shared process says of its tests. `ran` counts those of unittest, None where it found no class of them."""

    error: ErrorClass
    detail: str
    ran: int | None


@dataclass
class Session:
    """Calls into one program, and how they ended: `stopped` once the verdict is settled whatever the tests do.

    `ended` says that the program's process closed its pipe after it ran as a script.
    """

    channel: Channel
    allow_forgeable: bool = False
    forgeable: bool = False
    stopped: Stop | None = None
    ended: bool = False
    calls: int = 0
    raised: BaseException | None = None
    _predicted: deque[Prediction] = field(default_factory=deque)
    _callbacks: list[Callable[..., Any]] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)

    def load(self, source: str, imports: str, names: list[str], predicted: list[Prediction]) -> dict[str, Any]:
        """Run the program's source and return what it binds to `names`: data, or handles. Raises Stop."""
        identity = _fresh_identity()
        for prediction in predicted:
            prediction.identity = _fresh_identity()
        calls = [[item.name, [item.identity, "call", None, item.arguments, item.keywords]] for item in predicted]
        self._predicted = deque(predicted)
        self._send([identity, source, imports, names, calls])
        reply = self._receive(identity)
        if reply[1] != "loaded":
            self._stop(_failed_load(reply))
        return self._bind(reply[2], names)

    def run_script(self, source: str, stdin: bytes) -> bytes:
        """Run the program as a script with standard input and return what it wrote until it ended. Raises Stop."""
        identity = _fresh_identity()
        self._send(["script", identity, source])
        try:
            written = self.channel.exchange(stdin)
        except Stop as stop:
            self._stop(stop)
        self.ended = True
        failure = written.rfind(f'["{identity}"'.encode())
        if failure >= 0:
            self._stop(_failed_load(_parsed(written[failure:])))
        return written

    def run_shared(self, source: str, setup: str, tests: list[str], entry_point: str | None) -> TestsRun:
        """Run the program and its tests in one process, and return what that process says of them. Raises Stop."""
        identity = _fresh_identity()
        self._send(["shared", identity, source, setup, tests, entry_point])
        reply = self._receive(identity)
        if reply[1] != "tested":
            self._stop(_failed_load(reply))
        try:
            _, _, error, detail, ran = reply
            return TestsRun(ErrorClass(error), str(detail), ran if ran is None else int(ran))
        except (ValueError, TypeError):
            self._stop(violation("a malformed report"))

    def _bind(self, trees: Any, names: list[str]) -> dict[str, Any]:
        if type(trees) is not dict or not set(trees) <= set(names):
            self._stop(violation("malformed names"))
        decoder = Decoder(self._transparent)
        bound = {name: self._decode(decoder, tree) for name, tree in trees.items()}
        self._names = {number_of(value): name for name, value in bound.items() if isinstance(value, Handle)}
        return bound

    def call(self, operation: str, target: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Have the program perform `operation` on its object `target`. Raises Stop, or the program's exception."""
        if self.stopped is not None:
            raise self.stopped
        self.calls += 1
        encoder = Encoder(self._opaque)
        trees = encoder.items(arguments)
        named = [[key, encoder.encode(value)] for key, value in keywords.items()]
        if self._predicted:
            identity = self._take_prediction(operation, target, trees, named)
        else:
            identity = _fresh_identity()
            self._send([identity, operation, target, trees, named])
        return self._result(identity, encoder, operation)

    def finish(self) -> None:
        """Settle a session whose tests ended well. Raises Stop."""
        if self.stopped is not None:
            raise self.stopped
        if self._predicted:
            self._stop(Mispredicted())
        if not self.calls:
            self.refuse("the tests never call the program")

    def _take_prediction(self, operation: str, target: int, trees: list[Any], named: list[Any]) -> str:
        expected = self._predicted.popleft()
        actual = Prediction(self._names.get(target, ""), trees, named)
        if operation != "call" or expected.text != actual.text:
            self._stop(Mispredicted())
        return expected.identity

    def _result(self, identity: str, encoder: Encoder, operation: str) -> Any:
        reply = self._receive(identity)
        while reply[1] == "callback":
            self._call_back(reply)
            reply = self._receive(identity)
        decoder = Decoder(self._transparent, encoder.objects)
        value = self._decode(decoder, reply[2]) if reply[1] == "value" else None
        self._update(encoder.objects, decoder, reply[-1])
        if reply[1] != "value":
            self.raised = self._rebuild_error(reply)
            if isinstance(self.raised, StopIteration) and operation != "next":
                # It would end a map or filter of the tests, and with it their assertions.
                self.raised = RuntimeError("the program raised StopIteration")
            raise self.raised
        return value

    def _update(self, own: list[object], decoder: Decoder, changes: Any) -> None:
        """Bring the arguments that the program changed in place back."""
        if changes is None:
            return
        if type(changes) is not list or len(changes) != len(own):
            self._stop(violation("malformed arguments"))
        try:
            for target, tree in zip(own, changes, strict=True):
                decoder.refill(target, tree)
        except (Malformed, RecursionError, TypeError, ValueError, IndexError):
            self._stop(violation("malformed arguments"))

    def _call_back(self, reply: list[Any]) -> None:
        try:
            _, _, number, trees, named = reply
            decoder = Decoder(self._transparent)
            arguments = [self._decode(decoder, tree) for tree in trees]
            keywords = {str(key): self._decode(decoder, tree) for key, tree in named}
            function = self._callbacks[number]
        except (ValueError, TypeError, IndexError):
            self._stop(violation("malformed callback"))
        try:
            result = ["result", Encoder(self._opaque).encode(function(*arguments, **keywords))]
        except Exception as error:
            result = ["raise", *describe(error)]
        self._send(result)

    def _rebuild_error(self, reply: list[Any]) -> BaseException:
        try:
            return rebuild(*reply[2:4])
        except (Malformed, TypeError):
            self._stop(violation("malformed exception"))

    def _decode(self, decoder: Decoder, tree: Any) -> Any:
        try:
            return decoder.decode(tree)
        except (Malformed, RecursionError) as error:
            self._stop(violation(f"malformed value: {str(error)[:80]}"))

    def _opaque(self, value: Any) -> list[Any]:
        if isinstance(value, Handle):
            return ["h", number_of(value)]
        if not callable(value):
            self.refuse(f"the tests pass a {type(value).__name__}, which cannot leave the judge")
        self._callbacks.append(value)
        return ["K", len(self._callbacks) - 1]

    def _transparent(self, tree: list[Any]) -> object:
        if tree[0] == "K":
            return self._callbacks[tree[1]]
        if tree[0] != "h" or type(tree[1]) is not int or tree[1] < 0:
            raise Malformed("unknown tag")
        return Handle(self, tree[1])

    def _send(self, message: list[Any]) -> None:
        try:
            self.channel.send(message)
        except Stop as stop:
            self._stop(stop)

    def _receive(self, identity: str) -> list[Any]:
        try:
            reply = self.channel.receive()
        except Stop as stop:
            self._stop(stop)
        if type(reply) is not list or len(reply) < 3 or reply[0] != identity:
            self._stop(violation("an answer to no question"))
        return list(reply)

    def refuse(self, reason: str) -> NoReturn:
        """Settle the verdict as refused. Raises Stop."""
        self._stop(Stop(ErrorClass.REFUSED, reason))

    def _stop(self, stop: Stop) -> NoReturn:
        self.stopped = stop
        raise stop


def _fresh_identity() -> str:
    return os.urandom(8).hex()


def _parsed(tail: bytes) -> list[Any]:
    try:
        reply = wire.loads(tail.decode("ascii"))
    except (ValueError, RecursionError):
        reply = None
    return reply if type(reply) is list and len(reply) >= 3 else ["", "runtime", "malformed failure"]


def _failed_load(reply: list[Any]) -> Stop:
    classes = {"syntax": ErrorClass.SYNTAX, "compile": ErrorClass.COMPILE, "memory": ErrorClass.MEMORY}
    error = classes.get(str(reply[1]), ErrorClass.RUNTIME)
    arguments = reply[3] if len(reply) > 3 and type(reply[3]) is list else []
    return Stop(error, f"{reply[2]}: {', '.join(str(part) for part in arguments[:1])}"[:200])
