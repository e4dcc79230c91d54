"""Programs that aim at the wire: trees that no encoder makes, and frames that no honest process sends."""

# ruff: noqa: E501
from __future__ import annotations

from sandbox_redteam_register import ONE, RAW, REFUSED, SHOWN, WIRE, attack, inside, tree

# Trees that no encoder makes: the judge must neither crash nor be bent
_CHAIN = "['d', 0, {0}, *(part for i in range(1, {2}) for part in (0, {1}))]"
for _name, _first, _next in (
    ("lists", "['l']", "['l', ['r', i]]"),
    ("mappings", "['d']", "['d', 0, ['r', i]]"),
    ("deques", "['q', None]", "['q', None, ['r', i]]"),
    ("defaultdicts", "['dd', None]", "['dd', None, 0, ['r', i]]"),
    ("ordered mappings", "['od']", "['od', 0, ['r', i]]"),
    ("counters", "['C']", "['C', 0, ['r', i]]"),
):
    tree(f"deep chain of {_name}", _CHAIN.format(_first, _next, 120_000), slow=_name != "deques")
    tree(f"deep chain of {_name} shown", _CHAIN.format(_first, _next, 5_000), *SHOWN)
_DOUBLED = "['d', 0, ['l'], *(part for i in range(1, 60) for part in (0, ['l', ['r', i], ['r', i]]))]"
tree("doubled sixty times", _DOUBLED)
tree("doubled sixty times, compared with itself", _DOUBLED, "assert solve(7) == solve(7) == 1729", slow=True)
tree("doubled sixty times, shown", _DOUBLED, *SHOWN, slow=True)
tree("cycle, shown", "['l', ['r', 0]]", *SHOWN)
tree("cycle, compared with itself", "['l', ['r', 0]]", "assert solve(7) == solve(7) and solve(7) == 1729")
tree("integer of a million digits, shown", "['i', 'f' * 1000000]", *SHOWN)
tree("integer with signs and spaces", "['i', ' -0x_f ']")
tree("integer of a list", "['i', ['l']]")
tree("integer tag for a handle", "['h', True]")
tree("handle of a giant number", "['h', 10**300]", "assert {solve(7): 1} == {1729: 1}", ends=REFUSED)
tree("handle of a fraction", "['h', 1.5]")
tree(
    "handles of equal hash", "['l', ['h', 5], ['h', 5 + (1 << 61) - 1]]", "assert set(solve(7)) == {1729}", ends=REFUSED
)
tree("fraction of giants", "['f', ['i', 'f' * 400000], ['i', 'e' * 399999 + '1']]", slow=True)
tree("decimal of a list", "['D', ['l']]")
tree("decimal of digits", "['D', [0, [1, 7, 2, 9], 'F']]")
tree("decimal made an integer", "['D', '1E+999999999']", "assert int(solve(7)) == 1729", slow=True)
tree("complex of text", "['c', '1+1j', None]")
tree("complex of nothing", "['c']")
tree("set of not a numbers", "['S', *[float('nan')] * 1000]")
tree("mapping with equal keys", "['d', 1, 2, True, 3, 1.0, 4]", "assert solve(7) == {1: 1729}")
tree("colliding keys", "['d', *(n for i in range(1, 60000) for n in (i * ((1 << 61) - 1), 0))]", slow=True)
tree("view of unhashables", "['k', ['l']]")
tree("items of one", "['I', 1]")
tree("reference of a float", "['r', 0.0]")
tree("reference of a boolean", "['r', True]")
tree("default of no type", "['dd', 'eval']")
tree("default that is a list", "['dd', ['l']]")
tree("default that is type", "['dd', 'type']", "assert solve(7)['a'] == 1729")
tree("deque of text length", "['q', 'x']")
tree("deque of giant length", "['q', 10**30]")
tree("type of a list", "['T', ['l']]")
tree("type that exits", "['T', 'SystemExit']", "assert isinstance(solve(7)(0), int)")
tree("type for equality", "['T', 'object']", "assert solve(7)() == 1729")
tree("bytes that are not hexadecimal", "['b', 'zz']")
tree("text that is not hexadecimal", "['u', 'zz']")
tree("text of bad code points", "['u', 'ffffffff']")
tree("text of a surrogate", "['u', '00d80000']", *SHOWN)
tree("date of texts", "['dt', '1', 1, 1, 1, 1, 1, 1, 0, None]")
tree("date with an odd zone", "['dt', 1, 1, 1, 1, 1, 1, 1, 0, 1e30]")
tree("date with no zone", "['dt', 1, 1, 1, 1, 1, 1, 1, 0, float('nan')]")
tree("date with a third fold", "['dt', 1, 1, 1, 1, 1, 1, 1, 7, None]")
tree("span beyond all days", "['td', 10**12, 0, 0]")
tree("time of too few", "['tm', 1]")
tree("tag that is a list", "[['l'], 1]")
tree("tag that is nothing", "[None]")
tree("tag in capitals", "['L', 1]")
tree("harness text for a tag", "['__class__', 'x']")
tree("many empty deques", "['t', *[['q', None]] * 100000]", slow=True)
tree("infinity in the wire", "float('inf')")

# The wire
attack(
    "answers for calls foreseen",
    WIRE
    + "s = server()\nfor name, call in s and sys._getframe(2).f_locals.get('request', [0] * 5)[4] or []:\n    os.write(3, frame([call[0], 'value', 0, None]))\ndef solve(x): return 0",
)
attack(
    "loaded twice",
    WIRE
    + "identity = next(v['identity'] for f in [sys._getframe(1)] for v in [f.f_locals] if 'identity' in v)\nos.write(3, frame([identity, 'loaded', {'solve': 5}]))\nos.write(3, frame([identity, 'loaded', {'solve': 1729}]))\ndef solve(x): return 0",
)
attack(
    "loaded as something else",
    WIRE
    + "identity = sys._getframe(1).f_locals['identity']\nos.write(3, frame([identity, 'passed', None, None]))\ndef solve(x): return 0",
)
attack(
    "loaded with names not asked for",
    WIRE
    + "identity = sys._getframe(1).f_locals['identity']\nos.write(3, frame([identity, 'loaded', {'solve': 1729, 'abs': 1, '__builtins__': {}}]))\nos._exit(0)",
)
attack(
    "loaded with a name twice",
    WIRE
    + 'identity = sys._getframe(1).f_locals[\'identity\']\nb = (\'["%s","loaded",{"solve":1,"solve":["T","int"]}]\' % identity).encode()\nos.write(3, struct.pack(\'>I\', len(b)) + b)\nos._exit(0)',
)
for _name, _reply in (
    ("a list for a kind", "[s._identity, ['value'], 1729, None]"),
    ("no value", "[s._identity, 'value']"),
    ("an error without a name", "[s._identity, 'error', None, None, None]"),
    ("an error of the harness", "[s._identity, 'error', 'Stop', ['passed', ''], None]"),
    ("an error that is no exception", "[s._identity, 'error', 'int', [1729], None]"),
    ("an error of many arguments", "[s._identity, 'error', 'ValueError', ['x'] * 100000, None]"),
    ("a group of errors", "[s._identity, 'error', 'ExceptionGroup', ['x', 'y'], None]"),
    ("changes that are a mapping", "[s._identity, 'value', 0, {}]"),
    ("a callback of text", "[s._identity, 'callback', 'x', [], []]"),
    ("a callback of a mapping", "[s._identity, 'callback', 0, {'a': 1}, {'b': 2}]"),
    ("a mapping", "{'0': s._identity, '1': 'value'}"),
    ("a text", "s._identity + 'value'"),
    ("an identity in a list", "[[s._identity], 'value', 1729, None]"),
    ("more than asked", "[s._identity, 'value', 0, None, 'passed']"),
):  # fmt: skip
    attack(
        f"frame: {_name}",
        WIRE + f"def solve(x):\n    s = server()\n    os.write(3, frame({_reply}))\n    os._exit(0)",
        *ONE,
    )
for _name, _body in (
    ("not a number", "b'NaN'"),
    ("a giant number", "b'1e999999'"),
    ("a giant integer", "b'9' * 100000"),
    ("deep lists", "b'[' * 50000 + b']' * 50000"),
    ("deep mappings", "b'{\"a\":' * 5000 + b'1' + b'}' * 5000"),
    ("bytes", "bytes(range(256))"),
    ("lone surrogates", "b'[\"\\\\ud800\", \"value\", \"\\\\udfff\", null]'"),
    ("nothing", "b''"),
    ("two values", "b'[][]'"),
    ("white space", "b' ' * 1000"),
    ("half a value", "b'[\"a\",'"),
):  # fmt: skip
    attack(
        f"body: {_name}",
        WIRE + f"def solve(x):\n    b = {_body}\n    os.write(3, struct.pack('>I', len(b)) + b)\n    os._exit(0)",
        *ONE,
    )
inside("half a header", "import os, time\nos.write(3, b'\\0\\0')\ntime.sleep(1000)", slow=True)
inside("half a frame and an exit", "import os\nos.write(3, b'\\0\\0\\1\\0[')\nos._exit(0)")
inside(
    "drip faster than the judge waits",
    "import os, time\nos.write(3, b'\\0\\2\\0\\0')\nwhile True:\n    os.write(3, b' ')\n    time.sleep(.0001)",
    slow=True,
)
inside("move the pipe", "import os\nos.dup2(3, 9)\nos.close(3)\nreturn 0")
inside("put a file in place of the pipe", "import os\nos.dup2(os.open('/dev/null', os.O_RDWR), 3)\nreturn 1729")
inside("shut the pipe down", "import socket\nsocket.socket(fileno=3).shutdown(2)\nreturn 1729")
inside("pass a descriptor", "import socket\nsocket.send_fds(socket.socket(fileno=3), [b'x'], [0, 1, 2])\nreturn 1729")
inside("make the pipe non-blocking", "import os\nos.set_blocking(3, False)\nreturn 1729")
inside("own the pipe's signals", "import fcntl\nfcntl.ioctl(3, 0x8901, b'\\0' * 4)\nreturn 1729")
inside("shrink the pipe's buffers", "import socket\nsocket.socket(fileno=3).setsockopt(1, 7, 1)\nreturn 1729")
attack(
    "call back without listening",
    WIRE
    + "def solve(x):\n    s = server()\n    b = frame([s._identity, 'callback', 0, [], []]) * 100\n    while True: os.write(3, b)",
    "assert solve(lambda: 'x' * 1000) == 1729",
    slow=True,
)

# After the verdict
attack("work at exit", "import atexit, os\natexit.register(lambda: open('@FOLDER@/exit', 'w'))\ndef solve(x): return 0")
attack(
    "work when freed",
    "class D:\n    def __del__(self):\n        while True: pass\nd = D()\ndef solve(x):\n    global d\n    d = None\n    return 0",
    slow=True,
)
attack("work when asked for a name", "def __getattr__(n):\n    while True: pass\ndef solve(x): return 0")
attack(
    "work in a signal",
    "import signal, os\nsignal.signal(signal.SIGALRM, lambda *a: os.write(3, b'\\0\\0\\0\\2[]'))\nsignal.setitimer(signal.ITIMER_REAL, .01, .01)\ndef solve(x):\n    while True: pass",
    slow=True,
)
attack(
    "garbage collector's callback",
    "import gc, sys, os\ngc.callbacks.append(lambda *a: os._exit(0))\ngc.collect()\ndef solve(x): return 0",
)
attack(
    "patched process",
    "import sys, os\nos._exit = lambda n: None\nsys.exit = os.abort = lambda *a: None\ndef solve(x): raise SystemExit(0)",
)
attack("names for the judge", "solve = type('solve', (int,), {'__call__': lambda s, x: 1728})(5)")
attack("solve is data", "solve = [['a', 1.5]]")
attack("solve is a type", "solve = int", "assert solve('7') == 8", ends=REFUSED)
attack("solve refers to nothing", RAW + "solve = Raw(['r', 0])")
attack("solve is a callback", RAW + "solve = Raw(['K', 0])")
attack(
    "solve twice the same handle",
    "def solve(x): return 0\nother = solve",
    "assert other(1) == 0\nassert solve(7) == 1729",
)
attack(
    "program in the way of imports",
    "import sys\nsys.modules['math'] = type(sys)('math')\nsys.modules['math'].isclose = lambda *a: True\ndef solve(x): return 0",
    "import math\nassert math.isclose(solve(7), 1729)",
)
