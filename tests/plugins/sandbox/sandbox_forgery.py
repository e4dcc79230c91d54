"""Programs that try to forge a verdict, by exits, lying objects, patched modules and forged messages."""

# ruff: noqa: E501
from __future__ import annotations

from sandbox_attack import add, inside

# Exits of every kind
inside("sys.exit", "import sys\nsys.exit(0)")
inside("SystemExit", "raise SystemExit")
inside("os._exit", "import os\nos._exit(0)")
add("sys.exit at import", "import sys\nsys.exit(0)")
add("os._exit at import", "import os\nos._exit(0)")
add("exit at exit", "import atexit, os\natexit.register(os._exit, 0)\ndef solve(x): raise SystemExit(0)")
inside("KeyboardInterrupt", "raise KeyboardInterrupt")
inside("GeneratorExit", "raise GeneratorExit")
inside("StopIteration", "raise StopIteration(1729)")
inside("bare exception", "raise BaseException('passed')")
inside("exception group", "raise ExceptionGroup('x', [ValueError()])")
inside("exit by ctypes", "import ctypes\nctypes.CDLL(None)._exit(0)")
inside("alarm", "import signal\nsignal.alarm(1)\nwhile True: pass")

# Forged verdicts
add(
    "markers",
    "print('passed')\nprint('OK')\nprint('{\"passed\": true}')\ndef solve(x):\n    print('passed')\n    return 'passed'",
)
add(
    "always equal",
    "class E:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    __hash__ = None\n"
    "def solve(x): return E()",
)
add(
    "always equal integer",
    "class I(int):\n    def __eq__(self, o): return True\n    def __hash__(self): return 0\ndef solve(x): return I(0)",
)
add(
    "always equal string",
    "class S(str):\n    def __eq__(self, o): return True\n    def __hash__(self): return 0\ndef solve(x): return S('')",
)
add(
    "always equal list",
    "class L(list):\n    def __eq__(self, o): return True\n    def __iter__(self): return iter([1])\ndef solve(x): return L()",
)
add(
    "always equal metaclass",
    "class M(type):\n    def __eq__(c, o): return True\n    def __hash__(c): return 0\nclass T(metaclass=M): pass\n"
    "def solve(x): return T",
)
add(
    "always equal float",
    "class F(float):\n    def __eq__(self, o): return True\n    def __sub__(self, o): return 0.0\ndef solve(x): return F()",
)
add("class as answer", "class solve:\n    def __init__(self, x): pass\n    def __eq__(self, o): return True")
add(
    "everything by getattr",
    "class E:\n    def __getattr__(self, n): return lambda *a, **k: True\n    def __eq__(s, o): return True\n"
    "def solve(x): return E()",
)
inside("unpickles to anything", "class P:\n    def __reduce__(self): return (eval, ('1729',))\nreturn P()")
inside(
    "patch the test's frame",
    "import sys\nf = sys._getframe()\nwhile f:\n    f.f_globals['assert'] = f.f_globals['AssertionError'] = Exception\n"
    "    f.f_trace = lambda *a: None\n    f = f.f_back\nreturn 0",
)
add(
    "trace function",
    "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef solve(x): return 0",
)
add(
    "patch builtins",
    "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.len = lambda x: 0\nbuiltins.isinstance = lambda *a: True\n"
    "builtins.all = builtins.any = lambda x: True\nbuiltins.type = lambda x: int\ndef solve(x): return 0",
)
add(
    "patch small integers",
    "import ctypes\nfor n in range(256):\n    ctypes.memset(id(n) + 24, 1, 4)\ndef solve(x): return 1",
)
add(
    "excepthook",
    "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\nsys.unraisablehook = lambda *a: os._exit(0)\ndef solve(x): raise ValueError",
)
add(
    "audit hook",
    "import sys, os\nsys.addaudithook(lambda e, a: os._exit(0) if e == 'compile' else None)\ndef solve(x): return compile('1', '', 'eval')",
)
add(
    "import hook",
    "import sys\nclass F:\n    def find_spec(self, *a): sys.exit(0)\nsys.meta_path.insert(0, F())\ndef solve(x):\n    import wave\n    return 0",
)
add(
    "patch the harness",
    "import sys\nfor n, m in list(sys.modules.items()):\n    if 'sandbox' in n:\n        for k in list(vars(m)):\n"
    "            if callable(getattr(m, k, None)) and not k.startswith('__'): setattr(m, k, lambda *a, **k: True)\ndef solve(x): return 0",
)
add("patch json", "import json\njson.dumps = lambda *a, **k: '[1, \"value\", true, null]'\ndef solve(x): return 0")
add(
    "patch the encoder",
    "import sys\nm = sys.modules['hrmctl_sandbox.codec']\nm.Encoder.encode = lambda s, v: ['h', 0, 'math']\ndef solve(x): return 0",
)
add("delete modules", "import sys\nsys.modules.clear()\ndef solve(x): return 0")
add("close the pipe", "import os\nos.closerange(0, 100)\ndef solve(x): return 0")
inside("close the pipe in a call", "import os\nos.closerange(0, 100)\nwhile True: pass")
add(
    "spray every descriptor",
    "import os\nfor fd in range(64):\n    for m in (b'passed', b'\\0\\0\\0\\4true', b'\\0\\0\\0\\2[]'):\n"
    "        try: os.write(fd, m)\n        except OSError: pass\ndef solve(x): return 0",
)
inside(
    "spray every descriptor in a call",
    "import os\nfor fd in range(64):\n    try: os.write(fd, b'\\0\\0\\0\\6passed')\n    except OSError: pass\nreturn 0",
)
inside("flood the pipe", "import os\nwhile True: os.write(3, b'\\0\\0\\0\\4true' * 1000)")
inside(
    "announce a giant frame", "import os\nos.write(3, b'\\xff\\xff\\xff\\xff')\nwhile True: os.write(3, b'x' * 60000)"
)
inside(
    "drip a frame",
    "import os, time\nos.write(3, b'\\0\\1\\0\\0')\nwhile True:\n    os.write(3, b' ')\n    time.sleep(.05)",
)
inside(
    "deep frame", "import os, struct\nb = b'[' * 1000000\nos.write(3, struct.pack('>I', len(b)) + b)\nwhile True: pass"
)
add(
    "answer before the question",
    "import os, json, struct\nfor i in range(100):\n    b = json.dumps([str(i), 'value', 1729, None]).encode()\n"
    "    os.write(3, struct.pack('>I', len(b)) + b)\ndef solve(x): return 0",
)
inside(
    "forged handle",
    "import sys\nm = sys.modules['hrmctl_sandbox.candidate']\n"
    "m.Encoder.encode = lambda s, v: ['h', -1, 'os']\nreturn 0",
)
inside("module as answer", "import os\nreturn os")
inside("harness module as answer", "import sys\nreturn sys")
inside("answer that changes", "import random\nreturn iter(lambda: random.random(), 2)")
inside(
    "find the judge by stack",
    "import inspect\nfor f in inspect.stack():\n    for v in f.frame.f_locals.values():\n"
    "        if hasattr(v, 'stopped'): v.stopped = None\nreturn 0",
)

# A judge that rebuilds hostile trees
_FORGED_TREE = """
import sys
m = sys.modules['hrmctl_sandbox.codec']
m.Encoder.encode = lambda s, v: {}
def solve(x): return 0
"""
for _name, _tree in (
    ("unknown tag", "['Z', 1]"),
    ("reference to nothing", "['r', 999]"),
    ("negative reference", "['r', -1]"),
    ("bare mapping", "{'a': 1}"),
    ("empty tag", "[]"),
    ("unhashable member", "['S', ['l', 1]]"),
    ("set inside itself", "['S', ['r', 0]]"),
    ("odd mapping", "['d', 1]"),
    ("range of texts", "['R', 'a', 'b', 'c']"),
    ("endless range step", "['R', 0, 1, 0]"),
    ("date out of range", "['da', 99999, 1, 1]"),
    ("callback that does not exist", "['K', 7]"),
    ("unknown type", "['T', 'os.system']"),
    ("text for an integer", "['i', 'zz']"),
    ("handle of text", "['h', '0', 'sys']"),
    ("deep tree", "eval('[\"t\",' * 80 + '1' + ']' * 80)"),
    ("fraction over zero", "['f', 1, 0]"),
    ("negative deque", "['q', -5, 1]"),
):
    add(f"forged tree: {_name}", _FORGED_TREE.format(_tree))

# Disturbing a sibling or the next program
add(
    "poison modules for the next program",
    "import builtins, json, re, math, sys\nbuiltins.sorted = lambda *a: 0\nmath.sqrt = lambda x: 0\n"
    "sys.setrecursionlimit(60)\ndef solve(x): return 0",
)
inside(
    "leave limits for the next program",
    "import resource\nfor k in (resource.RLIMIT_CPU, resource.RLIMIT_AS):\n    resource.setrlimit(k, (1, 1))\n"
    "while True: pass",
)
inside("leave a file for the next program", "open('/tmp/left', 'w').write('x')")
