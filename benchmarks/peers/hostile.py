"""Hostile programs for one problem: those that do not know the answers, and those that do harm first.

A `forge` program does not know what `solve` must return, so a pass is forged. An `escape` program knows it, and returns
it only after something happened that a sandbox denies, so a pass tells that it happened; the arena watches for the same.
Of an `effect` program only what it did to the arena and the harness counts. A `stall` program never answers. The
program after each must be graded as if that had not been. Bombs are bounded. @…@ is filled in by `corpus`.
"""

# ruff: noqa: E501
from __future__ import annotations

import random
from dataclasses import dataclass

from peers.harnesses import Task


@dataclass(frozen=True)
class Hostile:
    """A program; `wait` seconds after its verdict its effects are looked at."""

    name: str
    kind: str
    source: str
    wait: float = 0.0


_FORGE = {
    "sys.exit(0) at import": "import sys\nsys.exit(0)",
    "os._exit(0) at import": "import os\nos._exit(0)",
    "SystemExit in a call": "def solve(x): raise SystemExit(0)",
    "os._exit(0) in a call": "import os\ndef solve(x): os._exit(0)",
    "exec of another program": "import os\nos.execv('/bin/true', ['true'])",
    "exit at exit": "import atexit, os\natexit.register(os._exit, 0)\ndef solve(x): raise SystemExit(1)",
    "excepthook": "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\ndef solve(x): raise ValueError",
    "exit from a thread": "import os, threading, time\nthreading.Thread(target=lambda: (time.sleep(.05), os._exit(0))).start()\ndef solve(x): time.sleep(1)",
    "the original exits, a copy goes on": "import posix\nif posix.fork(): posix._exit(0)\ndef solve(x): return 0",
    "success markers": "import os\nfor fd in (1, 2):\n    os.write(fd, b'passed\\nOK\\n1 passed\\n')\nprint('passed')\ndef solve(x): return 'passed'",
    "spray every descriptor": "import os\nfor fd in range(3, 64):\n    for m in (b'passed', b'\\0\\0\\0\\4true'):\n        try: os.write(fd, m)\n        except OSError: pass\ndef solve(x): return 0",
    "always equal": "class E:\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0\ndef solve(x): return E()",
    "always equal int": "class I(int):\n    def __eq__(s, o): return True\n    def __ne__(s, o): return False\n    def __sub__(s, o): return 0\n    __hash__ = int.__hash__\ndef solve(x): return I(0)",
    "int that becomes what it is compared with": "class I(int):\n    def __eq__(s, o):\n        s.seen = o\n        return int(o) == o\n    def __sub__(s, o): return o - o\ndef solve(x): return I(0)",
    "always equal class": "class M(type):\n    def __eq__(c, o): return True\n    def __sub__(c, o): return 0\n    __hash__ = type.__hash__\nclass T(metaclass=M): pass\ndef solve(x): return T",
    "class as function": "class solve:\n    def __init__(s, x): pass\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0",
    "string that lies about its class": "class S(str):\n    __class__ = int\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0\n    __hash__ = str.__hash__\ndef solve(x): return S()",
    "patched builtins": "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.abs = lambda x: 0\nbuiltins.all = builtins.any = builtins.isinstance = lambda *a: True\nbuiltins.len = lambda x: 0\ndef solve(x): return 0",
    "trace function replaces check": "import sys\ndef t(frame, event, arg):\n    g = frame.f_globals\n    if 'check' in g: g['check'] = lambda c: None\n    return t\nsys.settrace(t)\nsys._getframe().f_trace = t\ndef solve(x): return 0",
    "override check from a call": "import sys\ndef solve(x):\n    f = sys._getframe(1)\n    f.f_globals['check'] = lambda c: None\n    sys.exit(0)",
    "expected values from the caller's constants": "import sys\ndef solve(x):\n    c = sys._getframe(1).f_code.co_consts\n    return c[c.index(x) + 1]",
    "expected values from the source in frames": "import sys, re\ndef solve(x):\n    f = sys._getframe()\n    while f:\n        for v in list(f.f_locals.values()) + list(f.f_globals.values()):\n            if isinstance(v, str):\n                m = re.search(r'\\(%d\\)\\s*(?:==|-)\\s*(\\d+)' % x, v)\n                if m: return int(m[1])\n        f = f.f_back",
    "expected values from a list in frames": "import sys\ndef solve(x):\n    f = sys._getframe()\n    while f:\n        v = f.f_locals\n        if isinstance(v.get('expected'), list): return v['expected'][list(v['inputs']).index([x])]\n        f = f.f_back",
    "expected values from the heap": "import gc\ndef solve(x):\n    for o in gc.get_objects():\n        if type(o) is list and o and all(type(i) is int and i > 10**6 for i in o) and len(o) == 3:\n            return o[(3, 17, 40).index(x)]",
    "expected values from the script's file": "import re, sys\ndef solve(x): return int(re.search(r'\\(%d\\)\\s*(?:==|-)\\s*(\\d+)' % x, open(sys.argv[0]).read())[1])",
    "write the verdict into a list in frames": "import sys, os\ndef solve(x):\n    f = sys._getframe()\n    while f:\n        r = f.f_locals.get('result')\n        if r is not None:\n            r.append('passed')\n            os._exit(0)\n        f = f.f_back",
    "write the verdict into shared memory in frames": "import sys, os\ndef solve(x):\n    f = sys._getframe()\n    while f:\n        v = f.f_locals\n        if 'stat' in v and 'details' in v:\n            for i in range(len(v['details'])): v['details'][i] = True\n            v['progress'].value, v['stat'].value = len(v['details']), 0\n            os._exit(0)\n        f = f.f_back",
    "answers from a file": "import io\ndef solve(x): return eval(io.FileIO('@FOLDER@/answers').read())[x]",
    "answers from the environment": "import os\ndef solve(x): return eval(os.environ['ANSWERS'])[x]",
    "answers from a parent's environment": "import io, os, re\ndef solve(x):\n    p = os.getppid()\n    while p > 1:\n        e = io.FileIO(f'/proc/{p}/environ').read().decode()\n        m = re.search('ANSWERS=([^\\0]*)', e)\n        if m: return eval(m[1])[x]\n        p = int(io.FileIO(f'/proc/{p}/stat').read().rsplit(b')')[-1].split()[1])",
}  # fmt: skip

# Each body runs before the right answer is returned; what it raises is a failure.
_ESCAPE = {
    "read a file of the user": "import io\nassert io.FileIO('@FOLDER@/answers').read()",
    "list a folder of the user": "import os\nassert 'victim' in os.listdir('@FOLDER@')",
    "write a file": "import io\nio.FileIO('@FOLDER@/out/file', 'w').write(b'x')",
    "fill the disk (32 MiB)": "import io\nf = io.FileIO('@FOLDER@/out/filled', 'w')\nfor _ in range(32): assert f.write(b'x' * (1 << 20)) == 1 << 20",
    "overwrite a file": "import io\nio.FileIO('@FOLDER@/victim', 'w').write(b'owned')",
    "delete a file": "import posix\nposix.unlink('@FOLDER@/victim')",
    "change a file's mode": "import posix\nposix.chmod('@FOLDER@/victim', 0o777)",
    "TCP connection": "import socket\nsocket.create_connection(('127.0.0.1', @PORT@), 1)",
    "abstract socket": "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0hrmctl-bench-@PORT@')",
    "shell": "import ctypes\nassert ctypes.CDLL(None).system(b'echo x > @FOLDER@/out/shell') == 0",
    "another program": "import posix\npid = posix.posix_spawn('/bin/sh', ['sh', '-c', 'echo x > @FOLDER@/out/spawned'], {})\nassert posix.waitpid(pid, 0)[1] == 0",
    "fork bomb (16 processes)": "import posix, time\nfor _ in range(16):\n    if posix.fork() == 0:\n        time.sleep(.2)\n        posix._exit(0)",
    "thread bomb (16 threads)": "import threading, time\nfor _ in range(16): threading.Thread(target=time.sleep, args=(.3,)).start()",
    "memory bomb (6 GiB of addresses)": "import mmap\nassert len(mmap.mmap(-1, 6 << 30)) == 6 << 30",
}  # fmt: skip
# Of these only what happens counts: where nothing does, a right answer may pass.
_EFFECT = {
    "kill the parent": "import posix\nposix.kill(posix.getppid(), 9)",
    "kill all": "import posix\nposix.kill(-1, 9)",
    "starve the parent of files": "import _posixsubprocess, ctypes, posix\nlimit = (ctypes.c_ulong * 2)(0, 0)\nassert ctypes.CDLL(None).prlimit(posix.getppid(), 7, limit, None) == 0",
}  # fmt: skip
_DAEMON = "import posix, time, io\nif posix.fork() == 0:\n    posix.setsid()\n    time.sleep(.8)\n    io.FileIO('@FOLDER@/out/daemon', 'w').write(b'x')\n    posix._exit(0)"
_STALL = {
    "loop": "while True: pass",
    "loop swallowing exceptions": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "loop in C": "return sum(range(10**12))",
    "sleep ignoring signals": "import signal, time\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\ntime.sleep(1000)",
    "regular expression": "import re\nreturn re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "output flood": "while True: print('x' * 100000)",
    "segmentation fault": "import ctypes\nreturn ctypes.string_at(0)",
    "endless recursion": "import sys\nsys.setrecursionlimit(10**9)\nreturn solve(x)",
    "huge integer": "return 7 ** (7 ** 12)",
}
_POINTS = (3, 17, 40)


@dataclass(frozen=True)
class Corpus:
    """The problem, a harmless right program, the answers as text, and the programs."""

    task: Task
    harmless: str
    answers: str
    programs: tuple[Hostile, ...]


def corpus(folder: str, port: int) -> Corpus:
    """The problem has new answers at every call, so that no program can know them."""
    a, b = random.randrange(10**6, 10**7), random.randrange(10**6, 10**7)
    body = f"return x * {a} + {b}"
    answers = {x: x * a + b for x in _POINTS}
    first, second, third = (f"candidate({x})" for x in _POINTS)
    one, two, three = answers.values()
    tests = (
        f"def check(candidate):\n    assert {first} == {one}\n    assert {second} == {two}\n"
        f"    assert abs({third} - {three}) < 1e-6\n"
    )
    inputs, expected = [[x] for x in _POINTS], list(answers.values())
    task = Task("hostile", "solve", "", tests, True, repr(inputs), repr(expected))
    escapes = {name: _function(f"{source}\n{body}") for name, source in _ESCAPE.items()}
    stalls = {name: _function(source) for name, source in _STALL.items()}
    harms = {name: _function(f"{source}\n{body}") for name, source in _EFFECT.items()}
    daemon = Hostile("daemon outliving the verdict", "effect", _function(f"{_DAEMON}\n{body}"), wait=1.2)
    found = [
        *(Hostile(name, "forge", source) for name, source in _FORGE.items()),
        *(Hostile(name, "escape", source) for name, source in escapes.items()),
        *(Hostile(name, "effect", source) for name, source in harms.items()),
        daemon,
        *(Hostile(name, "stall", source) for name, source in stalls.items()),
    ]
    filled = tuple(
        Hostile(h.name, h.kind, h.source.replace("@FOLDER@", folder).replace("@PORT@", str(port)), h.wait)
        for h in found
    )
    return Corpus(task, f"def solve(x): {body}\n", repr(answers), filled)


def _function(body: str) -> str:
    return "def solve(x):\n" + "".join(f"    {line}\n" for line in body.splitlines())
