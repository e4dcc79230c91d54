"""Values as tagged JSON trees, rebuilt as exact builtin types.

Scalars travel as themselves; everything else is a list whose first item is a tag. Mutable containers are numbered in
the order in which they are met, so that aliases and cycles survive and later messages can refer to earlier objects.
"""

from __future__ import annotations

import builtins
import datetime
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

Tree = Any
_SMALL = 1 << 63
# Each reference may lead one tree deeper, and freeing what is nested some 20,000 deep overflows the stack.
_LONGEST_CHAIN = 64
_EMPTY: dict[Any, Any] = {}
_KEYS: type = type(_EMPTY.keys())
_ITEMS: type = type(_EMPTY.items())
# Values that are their own trees, and the types of JSON that are not values themselves.
_SAME = (float, bool, type(None))
_TREES = (list, dict)
_UNNAMED = ("super", "classmethod", "staticmethod", "property", "memoryview")

TYPES: dict[str, type] = {
    name: value for name, value in vars(builtins).items() if isinstance(value, type) and name not in _UNNAMED
}
TYPES |= {
    kind.__name__: kind
    for kind in (Decimal, Fraction, deque, Counter, OrderedDict, defaultdict, datetime.date, datetime.datetime)
}
TYPES |= {"time": datetime.time, "timedelta": datetime.timedelta, "NoneType": type(None)}
TYPE_NAMES: dict[type, str] = {kind: name for name, kind in TYPES.items() if not issubclass(kind, BaseException)}


class Malformed(ValueError):
    """A tree that no encoder produces."""


class Plain:
    """What `opaque` returns for an object that is sent as the data in `value`."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Encoder:
    """Turns values into trees. `opaque` gives the tree of what is not data; `objects` are the numbered containers."""

    def __init__(self, opaque: Callable[[object], Tree], objects: Iterable[object] = ()) -> None:
        self.opaque = opaque
        self.objects: list[object] = list(objects)
        self._numbers = {id(item): number for number, item in enumerate(self.objects)}

    def encode(self, value: Any) -> Tree:
        """The tree of `value`. Raises RecursionError for very deep values."""
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if kind is int:
            return value if -_SMALL <= value < _SMALL else ["i", hex(value)]
        if kind is str:
            return value if value.isascii() else _text(value)
        number = self._numbers.get(id(value))
        if number is not None:
            return ["r", number]
        encode = _EXACT.get(kind) or _inherited(kind)
        if encode is not None:
            return encode(self, value)
        tree = self.opaque(value)
        return self.encode(tree.value) if type(tree) is Plain else tree

    def remember(self, value: object) -> None:
        """Number `value`, so that its next occurrence is a reference."""
        self._numbers[id(value)] = len(self.objects)
        self.objects.append(value)

    def items(self, values: Iterable[Any]) -> list[Tree]:
        """The trees of several values."""
        encode = self.encode
        return [value if type(value) in _SAME else encode(value) for value in values]

    def content(self, value: Any) -> Tree:
        """The tree of a numbered container's present content, whether or not it was met before."""
        encode = _EXACT.get(type(value)) or _inherited(type(value))
        if encode is None:
            raise Malformed("not a container")
        return encode(self, value, False)


def _text(value: str) -> Tree:
    try:
        value.encode()
    except UnicodeEncodeError:
        return ["u", value.encode("utf-32-le", "surrogatepass").hex()]
    return value


def _inherited(kind: type) -> Any:
    for base in kind.__mro__:
        if base in _EXACT:
            return _EXACT[base]
        if base in _SCALARS:
            return _SCALARS[base]
    return None


def _sequence(tag: str, numbered: bool, base: Any) -> Any:
    def encode(self: Encoder, value: Any, fresh: bool = True) -> Tree:
        if numbered and fresh:
            self.remember(value)
        return [tag, *self.items(base.__iter__(value))]

    return encode


def _pairs(self: Encoder, value: dict[Any, Any]) -> list[Tree]:
    encode = self.encode
    return [tree for key, item in dict.items(value) for tree in (encode(key), encode(item))]


def _mapping(tag: str) -> Any:
    def encode(self: Encoder, value: Any, fresh: bool = True) -> Tree:
        if fresh:
            self.remember(value)
        return [tag, *_pairs(self, value)]

    return encode


def _encode_defaultdict(self: Encoder, value: Any, fresh: bool = True) -> Tree:
    if fresh:
        self.remember(value)
    return ["dd", TYPE_NAMES.get(value.default_factory), *_pairs(self, value)]


def _encode_deque(self: Encoder, value: Any, fresh: bool = True) -> Tree:
    if fresh:
        self.remember(value)
    return ["q", value.maxlen, *self.items(deque.__iter__(value))]


def _encode_bytearray(self: Encoder, value: Any, fresh: bool = True) -> Tree:
    if fresh:
        self.remember(value)
    return ["B", bytearray.hex(value)]


def _encode_datetime(self: Encoder, value: Any) -> Tree:
    zone = value.tzinfo
    if zone is not None and type(zone) is not datetime.timezone:
        return self.opaque(value)
    parts = [value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.fold]
    return ["dt", *parts, _offset(value)]


def _encode_time(self: Encoder, value: Any) -> Tree:
    zone = value.tzinfo
    if zone is not None and type(zone) is not datetime.timezone:
        return self.opaque(value)
    return ["tm", value.hour, value.minute, value.second, value.microsecond, value.fold, _offset(value)]


def _offset(value: Any) -> float | None:
    return None if value.tzinfo is None else value.utcoffset().total_seconds()


def _encode_type(self: Encoder, value: type) -> Tree:
    name = TYPE_NAMES.get(value)
    return self.opaque(value) if name is None else ["T", name]


_SCALARS: dict[type, Any] = {
    int: lambda self, value: self.encode(int.__int__(value)),
    float: lambda self, value: float.__float__(value),
    str: lambda self, value: _text(str.__str__(value)),
}
_EXACT: dict[type, Any] = {
    list: _sequence("l", True, list),
    tuple: _sequence("t", False, tuple),
    dict: _mapping("d"),
    set: _sequence("S", True, set),
    frozenset: _sequence("F", False, frozenset),
    bytes: lambda self, value: ["b", bytes.hex(value)],
    bytearray: _encode_bytearray,
    complex: lambda self, value: ["c", value.real, value.imag],
    range: lambda self, value: ["R", *self.items((value.start, value.stop, value.step))],
    Decimal: lambda self, value: ["D", str(value)],
    Fraction: lambda self, value: ["f", *self.items((value.numerator, value.denominator))],
    datetime.datetime: _encode_datetime,
    datetime.date: lambda self, value: ["da", value.year, value.month, value.day],
    datetime.time: _encode_time,
    datetime.timedelta: lambda self, value: ["td", value.days, value.seconds, value.microseconds],
    deque: _encode_deque,
    Counter: _mapping("C"),
    OrderedDict: _mapping("od"),
    defaultdict: _encode_defaultdict,
    type(...): lambda self, value: ["E"],
    type(NotImplemented): lambda self, value: ["N"],
    _KEYS: lambda self, value: ["k", *self.items(value)],
    _ITEMS: lambda self, value: ["I", *self.items(part for pair in value for part in pair)],
    type: _encode_type,
}


class Decoder:
    """Rebuilds values from trees. `opaque` rebuilds what is not data; `objects` are the numbered containers."""

    def __init__(self, opaque: Callable[[list[Tree]], object], objects: Iterable[object] = ()) -> None:
        self.opaque = opaque
        self.objects: list[Any] = list(objects)
        self.chains = [0] * len(self.objects)
        self.chain = 0

    def decode(self, tree: Tree) -> Any:
        """The value of `tree`. Raises Malformed, or RecursionError for very deep trees."""
        if type(tree) is not list:
            if type(tree) is dict:
                raise Malformed("bare mapping")
            return tree
        try:
            rebuild = _REBUILD.get(tree[0])
            return self.opaque(tree) if rebuild is None else rebuild(self, tree)
        except (TypeError, IndexError, KeyError, AttributeError, ArithmeticError, ValueError) as error:
            raise Malformed(str(error)[:200]) from None

    def items(self, tree: list[Tree], start: int = 1) -> list[Any]:
        """The values of a tree's items from `start`."""
        decode = self.decode
        return [decode(item) if type(item) in _TREES else item for item in tree[start:]]

    def new(self, value: Any) -> Any:
        """Number a container before its items are rebuilt."""
        self.objects.append(value)
        self.chains.append(0)
        return value

    def refill(self, target: Any, tree: Tree) -> None:
        """Give the numbered container `target` the content of `tree`, which must be of the same kind."""
        kind, refill = _REFILL.get(tree[0] if type(tree) is list and tree else None, (None, None))
        if kind is None or refill is None or type(target) is not kind:
            raise Malformed("content of another kind")
        refill(self, target, tree)


def _fill_list(self: Decoder, target: Any, tree: list[Tree]) -> None:
    target[:] = self.items(tree)


def _fill_set(self: Decoder, target: Any, tree: list[Tree]) -> None:
    values = self.items(tree)
    target.clear()
    target.update(values)


def _fill_mapping(self: Decoder, target: Any, tree: list[Tree], start: int = 1) -> None:
    values = self.items(tree, start)
    pairs = list(zip(values[::2], values[1::2], strict=True))
    target.clear()
    for key, item in pairs:
        target[key] = item


def _fill_defaultdict(self: Decoder, target: Any, tree: list[Tree]) -> None:
    _fill_mapping(self, target, tree, 2)


def _fill_deque(self: Decoder, target: Any, tree: list[Tree]) -> None:
    values = self.items(tree, 2)
    target.clear()
    target.extend(values)


def _fill_bytearray(self: Decoder, target: Any, tree: list[Tree]) -> None:
    target[:] = bytes.fromhex(tree[1])


_REFILL: dict[Any, tuple[Any, Any]] = {
    "l": (list, _fill_list),
    "S": (set, _fill_set),
    "d": (dict, _fill_mapping),
    "C": (Counter, _fill_mapping),
    "od": (OrderedDict, _fill_mapping),
    "dd": (defaultdict, _fill_defaultdict),
    "q": (deque, _fill_deque),
    "B": (bytearray, _fill_bytearray),
}


def _container(tag: str, make: Callable[[list[Tree]], Any]) -> Any:
    fill = _REFILL[tag][1]

    def rebuild(self: Decoder, tree: list[Tree]) -> Any:
        number, outer, self.chain = len(self.objects), self.chain, 0
        value = self.new(make(tree))
        fill(self, value, tree)
        self.chains[number] = self.chain
        self.chain = max(outer, self.chain)
        return value

    return rebuild


def _integers(tree: list[Tree], count: int) -> list[int]:
    values = tree[1 : count + 1]
    if len(values) != count or any(type(value) is not int for value in values):
        raise Malformed("integers expected")
    return values


def _whole(self: Decoder, tree: list[Tree]) -> list[int]:
    values = self.items(tree)
    if any(type(value) is not int for value in values):
        raise Malformed("integers expected")
    return values


def _zone(offset: Tree) -> datetime.timezone | None:
    return None if offset is None else datetime.timezone(datetime.timedelta(seconds=offset))


def _datetime(self: Decoder, tree: list[Tree]) -> datetime.datetime:
    year, month, day, hour, minute, second, micro, fold = _integers(tree, 8)
    return datetime.datetime(year, month, day, hour, minute, second, micro, _zone(tree[9]), fold=fold)


def _time(self: Decoder, tree: list[Tree]) -> datetime.time:
    hour, minute, second, micro, fold = _integers(tree, 5)
    return datetime.time(hour, minute, second, micro, _zone(tree[6]), fold=fold)


def _dict(self: Decoder, tree: list[Tree]) -> dict[Any, Any]:
    values = self.items(tree)
    return dict(zip(values[::2], values[1::2], strict=True))


def _reference(self: Decoder, tree: list[Tree]) -> Any:
    (number,) = _integers(tree, 1)
    if number < 0:
        raise Malformed("no such object")
    self.chain = max(self.chain, self.chains[number] + 1)
    if self.chain > _LONGEST_CHAIN:
        raise Malformed("nested too deeply by references")
    return self.objects[number]


_REBUILD: dict[Any, Any] = {
    "r": _reference,
    "i": lambda self, tree: int(tree[1], 16),
    "u": lambda self, tree: bytes.fromhex(tree[1]).decode("utf-32-le", "surrogatepass"),
    "l": _container("l", lambda tree: []),
    "t": lambda self, tree: tuple(self.items(tree)),
    "d": _container("d", lambda tree: {}),
    "S": _container("S", lambda tree: set()),
    "F": lambda self, tree: frozenset(self.items(tree)),
    "b": lambda self, tree: bytes.fromhex(tree[1]),
    "B": _container("B", lambda tree: bytearray()),
    "c": lambda self, tree: complex(tree[1], tree[2]),
    "R": lambda self, tree: range(*_whole(self, tree)),
    "D": lambda self, tree: Decimal(tree[1]),
    "f": lambda self, tree: Fraction(*_whole(self, tree)),
    "dt": _datetime,
    "da": lambda self, tree: datetime.date(*_integers(tree, 3)),
    "tm": _time,
    "td": lambda self, tree: datetime.timedelta(*_integers(tree, 3)),
    "q": _container("q", lambda tree: deque(maxlen=tree[1])),
    "C": _container("C", lambda tree: Counter()),
    "od": _container("od", lambda tree: OrderedDict()),
    "dd": _container("dd", lambda tree: defaultdict(None if tree[1] is None else TYPES[tree[1]])),
    "E": lambda self, tree: ...,
    "N": lambda self, tree: NotImplemented,
    "k": lambda self, tree: dict.fromkeys(self.items(tree)).keys(),
    "I": lambda self, tree: _dict(self, tree).items(),
    "T": lambda self, tree: TYPES[tree[1]],
}
