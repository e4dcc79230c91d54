"""Programs that aim at the tests: with exceptions, objects and values that lie, and with what the tests hand out."""

# ruff: noqa: E501
from __future__ import annotations

from sandbox_redteam_register import HONEST, ONE, RAW, REFUSED, SHOWN, attack, inside

# Exceptions with a will of their own
for _name, _body in (
    ("class lies", "class E(BaseException):\n    __class__ = property(lambda s: AssertionError)\nraise E"),
    ("arguments lie", "e = ValueError()\ne.args = ([1], {2: 3}, b'4', object())\nraise e"),
    ("argument without end", "class A:\n    def __str__(s): return 'x' * (1 << 30)\nraise ValueError(A())"),
    (
        "argument of a lying text",
        "class T(str):\n    def __getitem__(s, i): return {1: 2}\nclass A:\n    def __str__(s): return T('x')\nraise ValueError(A())",
    ),
    ("reduce", "class E(Exception):\n    def __reduce__(s): return (eval, ('1729',))\nraise E"),
    (
        "chain",
        "e = None\nfor i in range(10**4):\n    n = ValueError(i)\n    n.__cause__ = n.__context__ = e\n    e = n\nraise e",
    ),
    (
        "cyclic chain",
        "a, b = ValueError(1), ValueError(2)\na.__context__, b.__context__ = b, a\na.__cause__ = a\nraise a",
    ),
    ("nested group", "e = ValueError()\nfor i in range(900): e = ExceptionGroup('g', [e])\nraise e"),
    (
        "metaclass",
        "class M(type):\n    __mro__ = property(lambda c: 1 / 0)\nclass E(Exception, metaclass=M): pass\nraise E('x')",
    ),
    ("assertion", "raise AssertionError('passed')"),
    ("assertion subclass", "class AssertionError(AssertionError): pass\nraise AssertionError"),
    ("group of exits", "raise BaseExceptionGroup('x', [SystemExit(0), KeyboardInterrupt()])"),
    ("terminal", "raise ValueError('\\x1b[2J\\r\\n\\x00\\u202epassed\\ud800')"),
    ("warning", "import warnings\nwarnings.simplefilter('error')\nwarnings.warn('x')"),
    ("syntax error with text for places", "raise SyntaxError('m', 'abcdef')"),
    ("key error of a million", "raise KeyError('k' * 10**6, 10**4000)"),
    ("operating system error", "raise OSError(10**30, 'x' * 10**6, 'f', 5, 'g')"),
    ("stop", "import sys\nclass Stop(BaseException): error = 'passed'; detail = ''\nraise Stop"),
):
    inside(f"exception: {_name}", _body)
# The text of such an exception is a SystemError, here and in the judge (repaired in later interpreters).
inside("exception: translation error off the text", "raise UnicodeTranslateError('abc', -5, -4, 'r')")
attack(
    "exception: encoding error off the text",
    "import sys\nm = sys.modules['hrmctl_sandbox.candidate']\n"
    "m.describe = lambda e: ('UnicodeEncodeError', ['ascii', 'x', -5, -4, 'r'])\ndef solve(x): raise ValueError",
)
for _kind in (
    "SystemExit",
    "GeneratorExit",
    "KeyboardInterrupt",
    "StopAsyncIteration",
    "MemoryError",
    "RecursionError",
):
    inside(
        f"raise {_kind} inside a loop of the tests",
        f"raise {_kind}(0)",
        "assert all(map(lambda n: solve(n) == n + 1722, [7, 8]))",
    )

# StopIteration ends the test's own iteration early, so that nothing is compared
STOPS = "raise StopIteration"
inside("end a map", STOPS, "assert all(map(lambda n: solve(n) == n + 1722, [7, 8]))")
inside("end a zip", STOPS, "assert all(a == b for a, b in zip(map(solve, [7, 8]), [1729, 3]))")
inside("end a filter", STOPS, "assert list(filter(lambda n: solve(n) != n + 1722, [7, 8])) == []")
inside("end a comprehension", STOPS, "assert [n for n in map(solve, [7, 8]) if n != 1729] == []")
inside("end a sum", STOPS, "assert sum(map(lambda n: solve(n) != 1729, [7, 8])) == 0")
inside("end an iteration until", STOPS, "for wrong in iter(lambda: solve(7) != 1729, False): assert not wrong")
inside(
    "end a starmap",
    STOPS,
    "import itertools\nassert not any(itertools.starmap(lambda a, b: solve(a) != b, [(7, 1729)]))",
)
inside(
    "end by a subclass",
    "class E(StopIteration): pass\nraise E",
    "assert all(map(lambda n: solve(n) == n + 1722, [7, 8]))",
)
attack(
    "end by a property",
    "class E:\n    @property\n    def value(self): raise StopIteration\ndef solve(x): return E()",
    "assert all(map(lambda n: solve(n).value == n + 1722, [7, 8]))",
)
attack(
    "end by a length",
    "class E:\n    def __len__(self): raise StopIteration\ndef solve(x): return E()",
    "assert all(map(lambda n: len(solve(n)) == n, [7, 8]))",
)

# Objects that answer for themselves
_ANYTHING = """
class E:
    def __getattr__(self, n): return lambda *a, **k: True
    def __contains__(self, o): return True
    def __bool__(self): return True
    def __len__(self): return 1
    def __iter__(self): return iter(())
    def __getitem__(self, k): return self
    def __hash__(self): return 1729
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    def __abs__(self): return 0
    def __float__(self): return 1729.0
    def __index__(self): return 1729
    __int__ = __trunc__ = __round__ = __floor__ = __ceil__ = __index__
    def __sub__(self, o): return 0
    __add__ = __radd__ = __rsub__ = __mul__ = __mod__ = __divmod__ = __pow__ = __and__ = __sub__
    def __format__(self, s): return 'x'
    def __call__(self, *a, **k): return self
def solve(x): return E()
"""
for _name, _test in (
    ("difference", "assert abs(solve(7) - 1729) < 1e-6"),
    ("reflected difference", "assert abs(1729 - solve(7)) < 1e-6"),
    ("rounding", "assert round(solve(7)) == 1729"),
    ("conversion", "assert int(solve(7)) == 1729"),
    ("float", "assert float(solve(7)) == 1729.0"),
    ("closeness", "import math\nassert math.isclose(solve(7), 1729)"),
    ("order", "assert 1728 < solve(7) < 1730"),
    ("sum", "assert sum([solve(7), -1729]) == 0"),
    ("maximum", "assert max(solve(7), 1729) == 1729"),
    ("remainder", "assert solve(7) % 1729 == 0"),
    ("count", "assert [1729, 1].count(solve(7)) == 1"),
    ("index", "assert [5, 1729].index(solve(7)) == 1"),
    ("member", "assert solve(7) in [1729, 5]"),
    ("member of a set", "assert solve(7) in {1729}"),
    ("key", "assert {1729: True}.get(solve(7))"),
    ("set", "assert set([solve(7)]) == {1729}"),
    ("pair", "assert (solve(7), 1) == (1729, 1)"),
    ("mapping", "assert {'a': solve(7)} == {'a': 1729}"),
    ("chain", "assert solve(7) == 1729 == solve(7)"),
    ("reversed comparison", "assert 1729 == solve(7)"),
    ("negated inequality", "assert not solve(7) != 1729"),
    ("and", "assert solve(7) and solve(7) == 1729"),
    ("type", "assert type(solve(7)) is int and solve(7) > 0"),
    ("instance", "assert isinstance(solve(7), int)"),
    ("list of it", "assert list(solve(7)) == [1729]"),
    ("sorted", "assert sorted([solve(7), 1]) == [1, 1729]"),
    ("tuple of it", "assert tuple(solve(7)) == (1729,)"),
    ("counter", "from collections import Counter\nassert Counter([solve(7)]) == Counter([1729])"),
    ("unpacking", "a, b = solve(7)\nassert a == 1729"),
    ("text", "assert str(solve(7)) == '1729'"),
    ("format", "assert f'{solve(7)}' == '1729'"),
    ("percent", "assert '%d' % solve(7) == '1729'"),
    ("decimal", "from decimal import Decimal\nassert Decimal(solve(7)) == 1729"),
    ("fraction", "from fractions import Fraction\nassert Fraction(solve(7)) == 1729"),
    ("copy", "import copy\nassert copy.copy(solve(7)) == 1729"),
    ("deep copy", "import copy\nassert copy.deepcopy(solve(7)) == 1729"),
    ("json", "import json\nassert json.dumps(solve(7)) == '1729'"),
    ("pickle", "import pickle\nassert pickle.loads(pickle.dumps(solve(7))) == 1729"),
    ("operator", "import operator\nassert operator.eq(solve(7), 1729)"),
    ("dunder", "assert solve(7).__eq__(1729) is True"),
    ("unittest", "import unittest\nunittest.TestCase().assertEqual(solve(7), 1729)"),
    ("unittest almost", "import unittest\nunittest.TestCase().assertAlmostEqual(solve(7), 1729)"),
    ("item", "assert solve(7)[0] == 1729"),
    ("attribute", "assert solve(7).value == 1729"),
    ("bare except", "try:\n    ok = solve(7) - 1729 == 0\nexcept:\n    ok = True\nassert ok"),
    ("match", "match solve(7):\n    case 1729: pass\n    case _: assert False"),
    ("match of a class", "match solve(7):\n    case int(): pass\n    case _: assert False"),
    ("slice", "assert [0, 1][solve(7):] == []"),
    ("range", "assert list(range(solve(7))) == [1]"),
    ("times", "assert 'a' * solve(7) == 'a' * 1729"),
    ("mean", "import statistics\nassert statistics.mean([solve(7)]) == 1729"),
    ("subset", "assert {1729} <= set(solve(7))"),
    ("identity", "assert solve(7) is True"),
):  # fmt: skip
    attack(f"object for {_name}", _ANYTHING, _test, ends=REFUSED)
attack("object that contains all", _ANYTHING, "assert 1729 in solve(7)", ends=REFUSED, owned=True)
attack(
    "close by a helper",
    "def solve(x): return 0\ndef close(a, b): return True",
    "assert close(solve(7), 1729)",
    ends=REFUSED,
    owned=True,
)
attack(
    "module for the tests",
    "def solve(x): return 0\nclass np: allclose = staticmethod(lambda *a: True)",
    "assert np.allclose(solve(7), 1729)",
    ends=REFUSED,
    owned=True,
)
attack(
    "unittest for the tests",
    "def solve(x): return 0\nclass unittest:\n    class TestCase:\n        def assertEqual(s, a, b): pass",
    "unittest.TestCase().assertEqual(solve(7), 1729)",
    ends=REFUSED,
    owned=True,
)
attack(
    "math for the tests",
    "class math: isclose = staticmethod(lambda *a: True)\ndef solve(x): return 0",
    "assert math.isclose(solve(7), 1729)",
)
attack(
    "builtins for the tests",
    "def abs(x): return 0\ndef isinstance(*a): return True\ndef sorted(x): return [1729]\ndef len(x): return 1\ndef solve(x): return [0]",
    "assert sorted(solve(7)) == [1729]",
)

# Numbers and texts that are almost right
for _name, _value, _test in (
    ("true for one", "[True]", "assert [type(n) for n in solve(7)] == [int]"),
    ("float for an integer", "1729.5", "assert int(solve(7)) == 1729 and solve(7) == 1729"),
    ("not a number", "float('nan')", "assert abs(solve(7) - 1729) < 1e-6"),
    ("not a number in a list", "[float('nan')]", "assert solve(7) == [1729]"),
    ("infinity", "float('inf')", "import math\nassert math.isclose(solve(7), 1729)"),
    ("signalling decimal", "__import__('decimal').Decimal('sNaN')", ONE[0]),
    ("signalling decimal in a set", "{__import__('decimal').Decimal('NaN')}", "assert solve(7) == {1729}"),
    ("enormous decimal", "__import__('decimal').Decimal('1E+999999999999999999')", "assert abs(solve(7) - 1729) < 1"),
    ("enormous fraction", "__import__('fractions').Fraction(1, 10**100000)", "assert abs(solve(7) - 1729) < 1"),
    ("integer with a mind", "type('I', (int,), {'__sub__': lambda s, o: 0, '__eq__': lambda s, o: True, '__hash__': lambda s: 1729})(3)", "assert abs(solve(7) - 1729) < 1"),
    ("float with a mind", "type('F', (float,), {'__float__': lambda s: 1729.0, '__abs__': lambda s: 0.0})(3)", "assert float(solve(7)) == 1729"),
    ("text with a mind", "type('S', (str,), {'__str__': lambda s: '1729', 'strip': lambda s: '1729', '__len__': lambda s: 4})('x')", "assert str(solve(7)).strip() == '1729'"),
    ("tuple with a mind", "type('T', (tuple,), {'__iter__': lambda s: iter([1729]), '__len__': lambda s: 1, '__getitem__': lambda s, i: 1729})((5,))", "assert list(solve(7)) == [1729]"),
    ("mapping with a mind", "type('D', (dict,), {'__missing__': lambda s, k: 1729, '__getitem__': lambda s, k: 1729, 'get': lambda s, *k: 1729})()", "assert solve(7)['a'] == 1729"),
    ("counter with a mind", "type('C', (__import__('collections').Counter,), {'__missing__': lambda s, k: 1729})()", "assert solve(7)['a'] == 1729"),
    ("default of its own", "__import__('collections').defaultdict(lambda: 1729)", "assert solve(7)['a'] == 1729"),
    ("set with a mind", "type('S', (set,), {'__contains__': lambda s, o: True, '__eq__': lambda s, o: True, '__hash__': None})()", "assert 1729 in solve(7)"),
    ("list with a mind", "type('L', (list,), {'__contains__': lambda s, o: True, 'index': lambda s, o: 0, 'count': lambda s, o: 1})()", "assert 1729 in solve(7)"),
    ("deque with a mind", "type('Q', (__import__('collections').deque,), {'__contains__': lambda s, o: True})()", "assert 1729 in solve(7)"),
    ("bytes with a mind", "type('B', (bytes,), {'decode': lambda s, *a: '1729'})(b'x')", "assert solve(7).decode() == '1729'"),
    ("date with a mind", "type('D', (__import__('datetime').date,), {'isoformat': lambda s: '1729', 'year': 1729})(1, 1, 1)", "assert solve(7).isoformat() == '1729'"),
    ("zone with a mind", "__import__('datetime').datetime(1, 1, 1, tzinfo=type('Z', (__import__('datetime').tzinfo,), {'utcoffset': lambda s, d: 1 / 0})())", "assert solve(7).year == 1729"),
    ("decimal with a mind", "type('D', (__import__('decimal').Decimal,), {'__str__': lambda s: '1E+999999999', '__abs__': lambda s: 0})(5)", "assert solve(7) == 1729"),
    ("class that lies", "type('C', (), {'__class__': property(lambda s: int)})()", "assert isinstance(solve(7), int) and solve(7) == 1729"),
    ("subclass by registration", "(lambda c: (__import__('numbers').Number.register(c), c())[1])(type('C', (), {}))", "import numbers\nassert isinstance(solve(7), numbers.Number)"),
    ("negative length", "type('C', (), {'__len__': lambda s: -1})()", "assert len(solve(7)) < 1"),
    ("giant length", "type('C', (), {'__len__': lambda s: 1 << 70})()", "assert len(solve(7)) == 1729"),
    ("range that never ends", "range(10**40)", "assert len(solve(7)) == 1729"),
    ("memory view", "memoryview(b'1729')", "assert solve(7) == b'1729'"),
    ("type for a function", "int", "assert solve(7)('8') == 1729"),
    ("ellipsis", "...", ONE[0]),
    ("not implemented", "NotImplemented", ONE[0]),
    ("combining text", "'a\\u0301'", "assert solve(7) == '\\u00e1'"),
    ("generator without end", "iter(int, 1)", "assert 5 in solve(7)"),
):  # fmt: skip
    inside(f"value: {_name}", f"return {_value}", _test, ends=REFUSED, slow="without end" in _name)

# What the tests hand out
inside(
    "make the arguments agree",
    "x[:] = []\nreturn []",
    "given = [1, 2]\nassert solve(given) == sorted([1, 2], reverse=True)",
)
inside(
    "arguments of another kind",
    "import sys\ns = sys._getframe(1).f_locals['decoder'].objects\ns[0] = {1: 2}\nreturn 1729",
    "assert solve([1]) == 3",
)
attack(
    "change arguments by forgery",
    "import sys\nm = sys.modules['hrmctl_sandbox.candidate']\nm.Server._changes = lambda *a: [['d', 1, 2]]\ndef solve(x): return 1729",
    "assert solve([1]) == 1729",
)
attack(
    "more arguments than given",
    "import sys\nm = sys.modules['hrmctl_sandbox.candidate']\nm.Server._changes = lambda *a: [['l'], ['l']]\ndef solve(x): return 1729",
    "assert solve([1]) == 1729",
)
attack(
    "reference beyond the arguments",
    "import sys\nm = sys.modules['hrmctl_sandbox.candidate']\nm.Server._changes = lambda *a: [['l', ['r', 5]]]\ndef solve(x): return 1729",
    "assert solve([1]) == 1729",
)
inside("argument inside itself", "x.append(x)\nreturn x", "given = [1]\nassert solve(given) == given == [1]")
inside("call back for ever", "while True: x(1)", "assert solve(lambda n: n) == 1729", slow=True)
inside("recursion between both", "return x(solve)", "def back(f): return f(back)\nassert solve(back) == 1729")
inside("call back into the depths", "return x(x)", "def back(f): return [f(f)]\nassert solve(back) == 1729")
inside(
    "call back with a lying object",
    "class E:\n    __lt__ = __eq__ = lambda s, o: True\n    __hash__ = None\nreturn x([E(), E()])",
    "assert solve(lambda items: sorted(items)) == 1729",
    ends=REFUSED,
)
inside("call back with too much", "return x('a' * 10**9)", "assert solve(lambda n: n) == 1729")
inside(
    "call back without end by generator",
    "def g():\n    while True: yield 1\nreturn x(g())",
    "assert solve(sum) == 1729",
    slow=True,
)
inside("make the judge compute", "return x(range(10**12))", "assert solve(sum) == 1729", slow=True)
inside("make the judge allocate", "return x(range(10**12))", "assert solve(list) == 1729")
inside(
    "open up a function of the tests",
    "return x.__globals__['expected']",
    "expected = 1729\ndef given(): pass\nassert solve(given) == expected",
)
inside("open up a method of the tests", "return x.__self__", "assert solve([1729].pop) == [1729]", ends=REFUSED)
inside(
    "read the closure of a callback",
    "return [c.cell_contents for c in x.__closure__]",
    "expected = 1729\nassert solve(lambda: expected) == [1729]",
    ends=REFUSED,
)
attack(
    "call what was never given",
    RAW
    + "import os\n_ask = None\ndef solve(x):\n    f = sys._getframe()\n    while 'self' not in f.f_locals: f = f.f_back\n    return f.f_locals['self']._ask(99, (), {})",
    *ONE,
)
attack(
    "call backwards",
    RAW
    + "def solve(x):\n    f = sys._getframe()\n    while 'self' not in f.f_locals: f = f.f_back\n    return f.f_locals['self']._ask(-1, (), {})",
    *ONE,
)

# What is right must still be passed
inside(
    "honest: an error that is expected",
    "raise ValueError('x')",
    "try:\n    solve(7)\nexcept ValueError: pass\nelse: assert False",
    ends=HONEST,
)
inside(
    "honest: a generator",
    "yield from (1729, 5)",
    "assert list(map(str, solve(7))) == ['1729', '5'] and next(solve(7)) == 1729",
    ends=HONEST,
)
inside(
    "honest: the end of a generator",
    "yield 1729",
    "found = solve(7)\nassert next(found) == 1729\ntry:\n    next(found)\nexcept StopIteration: pass\nelse: assert False",
    ends=HONEST,
)
inside("honest: a member of an iterator", "return iter([5, 1729])", "assert 1729 in solve(7)", ends=HONEST)
attack(
    "honest: an object",
    "class E:\n    value = 1729\n    def get(self): return self.value\ndef solve(x): return E()",
    "assert solve(7).value == 1729 == solve(7).get()",
    ends=HONEST,
)
inside(
    "honest: a key for sorting",
    "return sorted([3, 1, 2], key=x)",
    "assert solve(lambda n: -n) == [3, 2, 1]",
    ends=HONEST,
)

# Answers that the tests show in their own messages, or that an exception of the tests holds
_SPEAKS = "class E:\n    def __str__(self):\n        {0}\n    __repr__ = __str__\ndef solve(x): return E()"
for _name, _text in (
    ("that raises", "raise ValueError('x')"),
    ("that exits", "raise SystemExit(0)"),
    ("that raises StopIteration", "raise StopIteration"),
    ("that ends the process", "__import__('os')._exit(0)"),
    ("that is no text", "return 5"),
    ("that is enormous", "return 'x' * 10**8"),
):
    attack(f"message {_name}", _SPEAKS.format(_text), *SHOWN)
    attack(f"key {_name}", _SPEAKS.format(_text), "assert {1: 2}[solve(7)] == 1729")
attack("message that never comes", _SPEAKS.format("while True: pass"), *SHOWN, slow=True)
inside("message of an integer too long to print", "return 10**6000", *SHOWN)
inside("message of a list of such", "return [10**6000]", *SHOWN)
