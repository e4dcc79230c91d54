"""The program's side of the pipe: load the program, answer calls. Nothing here is trusted once the program runs."""

from __future__ import annotations

import operator
import os
import socket
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from . import wire
from .codec import Decoder, Encoder, Malformed, Plain, Tree
from .exceptions import describe, rebuild

_REHEARSALS = 64
_CHUNK = 1 << 16


def _isinstance(target: Any, value: Any) -> bool:
    return isinstance(value, target)


def _binary(target: Any, name: str, other: Any) -> Any:
    return getattr(operator, name)(target, other)


def _reflected(target: Any, name: str, other: Any) -> Any:
    return getattr(operator, name)(other, target)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "getattr": getattr,
    "setattr": setattr,
    "delattr": delattr,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    "len": len,
    "iter": iter,
    "next": next,
    "bool": bool,
    "str": str,
    "repr": repr,
    "isinstance": _isinstance,
    "binary": _binary,
    "reflected": _reflected,
}


class Server:
    """Answers the judge's calls on one program until it is killed."""

    def __init__(self, descriptor: int, output_bytes: int) -> None:
        self._descriptor = descriptor
        self._output_bytes = output_bytes
        self._objects: list[object] = []
        self._numbers: dict[int, int] = {}
        self._callbacks: dict[int, int] = {}
        self._identity = ""

    def serve(self) -> NoReturn:
        """Load the program, then answer calls for ever. Leaves by os._exit only."""
        try:
            self._load(wire.read(self._descriptor))
            while True:
                self._answer(wire.read(self._descriptor))
        except wire.Closed:
            os._exit(0)

    def _load(self, request: list[Any]) -> None:
        identity, source, imports, names, predicted = request
        scope = self._execute(identity, source)
        _import(imports, scope)
        encoder = Encoder(self._opaque)
        bound = {name: encoder.encode(scope[name]) for name in names if name in scope}
        self._send([identity, "loaded", bound], identity)
        for name, call in predicted:
            if name not in scope:
                return
            call[2] = self._handle(scope[name])
            self._answer(call)

    def _execute(self, identity: str, source: str, name: str = "program") -> dict[str, Any]:
        module = types.ModuleType(name)
        sys.modules[name] = module
        try:
            code = compile(source, "<program>", "exec", dont_inherit=True, optimize=0)
        except SyntaxError as error:
            self._fail(identity, "syntax", error)
        except BaseException as error:
            self._fail(identity, "compile", error)
        try:
            exec(code, module.__dict__)
        except MemoryError as error:
            self._fail(identity, "memory", error)
        except BaseException as error:
            if name != "__main__" or type(error) is not SystemExit or error.code:
                self._fail(identity, "runtime", error)
        return module.__dict__

    def _fail(self, identity: str, error_class: str, error: BaseException) -> NoReturn:
        self._send([identity, error_class, *describe(error)], identity)
        os._exit(0)

    def _answer(self, request: list[Any]) -> None:
        identity, operation, target, arguments, keywords = request
        self._identity = identity
        decoder = Decoder(self._transparent)
        values = decoder.items(arguments, 0)
        named = {key: decoder.decode(tree) for key, tree in keywords}
        before = wire.dumps([arguments, keywords]) if decoder.objects else ""
        encoder = Encoder(self._opaque, decoder.objects)
        try:
            called = self._objects[target]
            perform = _OPERATIONS.get(operation)
            result = called(*values, **named) if perform is None else perform(called, *values, **named)
            reply = [identity, "value", encoder.encode(result)]
        except BaseException as error:
            reply = [identity, "error", *describe(error)]
        reply.append(self._changes(before, values, named, encoder, len(decoder.objects)))
        self._send(reply, identity)

    def _changes(
        self, before: str, values: list[Any], named: dict[str, Any], encoder: Encoder, own: int
    ) -> list[Any] | None:
        """The present content of the call's mutable arguments, None where nothing changed."""
        if not own:
            return None
        try:
            fresh = Encoder(self._opaque)
            after = wire.dumps([fresh.items(values), [[key, fresh.encode(value)] for key, value in named.items()]])
            return None if before == after else [encoder.content(item) for item in encoder.objects[:own]]
        except Exception:
            return None

    def _handle(self, value: object) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return number

    def _opaque(self, value: object) -> Tree:
        callback = self._callbacks.get(id(value))
        if callback is not None:
            return ["K", callback]
        if type(value).__module__ == "numpy" and hasattr(type(value), "tolist"):
            return Plain(value.tolist())  # type: ignore[attr-defined]
        name = value.__name__ if type(value) is types.ModuleType else None
        return ["h", self._handle(value), name]

    def _transparent(self, tree: list[Any]) -> object:
        if tree[0] == "h":
            return self._objects[tree[1]]
        if tree[0] == "K":
            return self._callback(tree[1])
        raise Malformed("unknown tag")

    def _callback(self, number: int) -> Callable[..., Any]:
        def callback(*arguments: Any, **keywords: Any) -> Any:
            return self._ask(number, arguments, keywords)

        self._callbacks[id(callback)] = number
        self._objects.append(callback)
        return callback

    def _ask(self, number: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Have the judge run one of its functions; it may call back into the program meanwhile."""
        identity = self._identity
        encoder = Encoder(self._opaque)
        trees = encoder.items(arguments)
        self._send([identity, "callback", number, trees, [[key, encoder.encode(keywords[key])] for key in keywords]])
        while True:
            request = wire.read(self._descriptor)
            if request[0] == "result":
                self._identity = identity
                return Decoder(self._transparent).decode(request[1])
            if request[0] == "raise":
                self._identity = identity
                raise rebuild(request[1], request[2])
            self._answer(request)

    def _send(self, reply: list[Any], identity: str = "") -> None:
        frame = wire.pack(reply)
        if len(frame) > self._output_bytes:
            frame = wire.pack([identity, "error", "OverflowError", ["result exceeds the output limit"], None])
        wire.write(self._descriptor, frame)


def rehearse(server: Callable[[int, int], Server]) -> None:
    """Do before the forks what every program would otherwise do for the first time, until nothing changes any more."""
    source = "def f(x):\n    return [y for y in x]\n"
    data = ["l", 1, "", 1.5, None, ["t", 2], ["l", 3]]
    calls = [["f", ["a", "call", None, [tree], []]] for tree in (data, ["l"], 5)]
    theirs, mine = socket.socketpair()
    with theirs, mine:
        for _ in range(_REHEARSALS):
            wire.write(theirs.fileno(), wire.pack(["a", source, "", ["f"], calls]))
            served = server(mine.fileno(), _CHUNK)
            served._load(wire.read(mine.fileno()))
            theirs.recv(_CHUNK)
    del sys.modules["program"]


def _import(imports: str, scope: dict[str, Any]) -> None:
    for line in imports.splitlines():
        try:
            exec(line, scope)
        except Exception:
            continue
