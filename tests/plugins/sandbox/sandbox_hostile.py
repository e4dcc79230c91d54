"""Programs that attack the sandbox or try to forge a verdict. None knows what `solve` must return.

@SECRET@ is a readable file outside, @VICTIM@ a writable one, @FOLDER@ a writable folder, @PORT@ a listening TCP port,
@UDP@ a UDP port, @ABSTRACT@ an abstract socket, @UNIX@ a socket file, @HARNESS@ the package's folder.
"""

# ruff: noqa: E501
from __future__ import annotations

PROGRAMS: dict[str, str] = {}


def _add(name: str, source: str) -> None:
    assert name not in PROGRAMS, name
    PROGRAMS[name] = source.strip("\n") + "\n"


def _inside(name: str, body: str) -> None:
    """A program whose `solve` runs `body`."""
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    _add(name, f"def solve(x):\n{lines}\n")


def _leak(name: str, expression: str) -> None:
    """A program that shows what it read in an exception's message."""
    _inside(name, f"raise ValueError({expression})")


# Loops, sleep and other ways of never answering
_inside("loop", "while True: pass")
_inside("loop swallowing exceptions", "while True:\n    try:\n        while True: pass\n    except BaseException: pass")
_inside("loop in C", "return sum(range(10**12))")
_inside("loop in a regular expression", "import re\nreturn re.match(r'(a+)+$', 'a' * 60 + 'b')")
_inside("loop in a big power", "return 7 ** (7 ** 12)")
_add("loop at import", "while True: pass")
_inside("sleep", "import time\ntime.sleep(1000)")
_inside(
    "sleep without signals",
    "import time, signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\ntime.sleep(1000)",
)
_inside("wait for a line that never comes", "import os\nr, w = os.pipe()\nos.read(r, 1)")
_inside("ignore the CPU signal", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass")
_add("lock", "import threading\nlock = threading.Lock()\nlock.acquire()\ndef solve(x): lock.acquire()")

# Memory, processes, threads, disk, output
_inside("memory at once", "return len(bytearray(1 << 40))")
_inside("memory step by step", "keep = []\nwhile True: keep.append(bytearray(1 << 24))")
_inside(
    "memory swallowing errors",
    "keep = []\nwhile True:\n    try: keep.append(bytearray(1 << 22))\n    except MemoryError: pass",
)
_inside("memory by mmap", "import mmap\nkeep = [mmap.mmap(-1, 1 << 30) for _ in range(64)]\nreturn len(keep)")
_inside("memory by string", "s = 'x'\nwhile True: s += s")
_inside("fork bomb", "import os\nwhile True: os.fork()")
_inside("fork bomb swallowing errors", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
_inside("thread bomb", "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(1000,)).start()")
_inside("raw thread bomb", "import _thread, time\nwhile True: _thread.start_new_thread(time.sleep, (1000,))")
_inside("process pool", "import multiprocessing\nreturn multiprocessing.Pool(4).map(len, ['a'])")
_inside(
    "fill the disk",
    "import os\nfor place in ('@FOLDER@', '/tmp', '/dev/shm', '/var/tmp', '.'):\n    try:\n"
    "        with open(place + '/filled', 'wb') as f:\n            f.write(b'x' * 1000)\n    except OSError as e: pass\nreturn x",
)
_inside("output flood", "while True: print('x' * 100000)")
_inside("error output flood", "import os\nwhile True: os.write(2, b'x' * 100000)")
_inside("every descriptor", "import resource\nkeep = []\nwhile True: keep.append(open('/dev/null'))")
_inside(
    "daemon outliving the verdict",
    "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        import time\n"
    "        time.sleep(3)\n        open('@FOLDER@/daemon', 'w').close()\nreturn x",
)

# Crashes
_inside("segmentation fault", "import ctypes\nreturn ctypes.string_at(0)")
_inside("abort", "import os\nos.abort()")
_inside(
    "stack overflow in C",
    "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nreturn repr(x)",
)
_inside("recursion", "return solve(x)")
_add("compiler crash by parentheses", "solve = " + "(" * 5000 + "1" + ")" * 5000)
_add("compiler crash by operators", "solve = " + "-" * 100000 + "1")
_add(
    "compiler crash by nested lists", "x = " + "[" * 90 + "]" * 90 + "\ndef solve(x): return " + "+".join(["1"] * 20000)
)
_add("compiler memory", "def solve(x): return (1,) * (1 << 40)\ny = 'x' * (1 << 40)")

# Giant or malformed answers
_inside("giant exception", "raise ValueError('x' * (1 << 28))")
_inside("giant exception by type name", "raise type('E' * (1 << 24), (ValueError,), {})('x')")
_inside("exception whose text raises", "class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E()")
_inside(
    "exception that never formats", "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E()"
)
_inside("giant result", "return 'x' * (1 << 28)")
_inside("giant list", "return [0] * (1 << 26)")
_inside("giant integer", "return 1 << (1 << 28)")
_inside("integer too long to print", "return 10 ** 6000")
_inside("deeply nested result", "r = []\nfor _ in range(100000): r = [r]\nreturn r")
_inside("cyclic result", "r = []\nr.append(r)\nreturn r")
_inside("colliding set", "return {i * ((1 << 61) - 1) for i in range(1, 20000)}")
_inside("endless iterator", "import itertools\nreturn itertools.count()")
_inside("not a number", "return float('nan')")

# Bad source
_add("NUL in source", "def solve(x): return 1\n\0")
_add("lone surrogate in source", "def solve(x): return '\ud800'\n")
_add("lone surrogate in the middle", "s = '\udfff'")
_inside("lone surrogate as result", "return '\\ud800'")
_add("byte order mark", "\ufeff\ufeffdef solve(x): return x")
_add("no source", "")
_add("binary source", "".join(map(chr, range(1, 256))))
_add("endless line", "solve = " + "a" * 1_000_000)

# Reading
_leak("read a secret", "open('@SECRET@').read()")
_leak("read a secret by descriptor", "__import__('os').read(__import__('os').open('@SECRET@', 0), 100)")
_leak(
    "read a secret by ctypes",
    "(lambda c, b: (c.read(c.open(b'@SECRET@', 0), b, 100), b.raw))"
    "(__import__('ctypes').CDLL(None), __import__('ctypes').create_string_buffer(100))",
)
_leak("read a secret by import", "(__import__('sys').path.insert(0, '@FOLDER@'), __import__('planted').TOKEN)")
_leak("read a secret by link", "__import__('os').readlink('@FOLDER@/link')")
_leak(
    "read a secret through the standard library",
    "open(__import__('os').__file__[:-5] + '/../../../../../..@SECRET@').read()",
)
_leak("list a folder", "__import__('os').listdir('@FOLDER@')")
_leak("read passwords", "'LEAK' + open('/etc/passwd').read()")
_leak("read the environment", "'LEAK' + __import__('os').environ['PATH']")
_leak("read the parent's environment", "'LEAK' + open('/proc/%d/environ' % __import__('os').getppid()).read()")
_leak("read the parent's memory", "'LEAK' + str(open('/proc/%d/mem' % __import__('os').getppid(), 'rb').read(10))")
_leak("read the parent's arguments", "'LEAK' + open('/proc/%d/cmdline' % __import__('os').getppid()).read()")
_leak("read the harness", "'LEAK' + open('@HARNESS@/grading.py').read()")
_leak("read installed packages", "'LEAK' + str(__import__('pytest'))")
_inside(
    "read the tests from frames",
    """
import sys
frame = sys._getframe()
while frame:
    for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
        if str(864 * 2 + len('x')) in repr(value)[:100000]: raise ValueError('LEAK')
    frame = frame.f_back
return 0""",
)
_inside(
    "read the tests from the heap",
    """
import gc
for item in gc.get_objects():
    try:
        if type(item) in (list, dict, tuple, str) and str(864 * 2 + len('x')) in str(item)[:10000]:
            raise ValueError('found the answer LEAK')
    except (RecursionError, TypeError): pass
return 0""",
)
_inside(
    "read the tests from memory",
    """
import ctypes
try: maps = open('/proc/self/maps').read()
except OSError: raise ValueError('no maps')
raise ValueError('LEAK')""",
)

# Writing and deleting
_inside("overwrite a file", "open('@VICTIM@', 'w').write('owned')")
_inside("delete a file", "import os\nos.unlink('@VICTIM@')")
_inside("rename a file", "import os\nos.rename('@VICTIM@', '@FOLDER@/renamed')")
_inside("truncate a file", "import os\nos.truncate('@VICTIM@', 0)")
_inside("change a file's mode", "import os\nos.chmod('@VICTIM@', 0o777)")
_inside("make a folder", "import os\nos.mkdir('@FOLDER@/made')")
_inside("make a link", "import os\nos.symlink('/etc', '@FOLDER@/linked')")
_inside("delete the standard library", "import os, shutil\nshutil.rmtree(os.path.dirname(os.__file__))")
_inside(
    "write through ctypes",
    "import ctypes\nc = ctypes.CDLL(None)\nc.write(c.open(b'@FOLDER@/ctypes', 0o101, 0o644), b'x', 1)",
)

# Network and other channels
_inside("TCP", "import socket\nsocket.create_connection(('127.0.0.1', @PORT@), 1).send(b'x')")
_inside("TCP by address family", "import socket\ns = socket.socket(socket.AF_INET6)\ns.connect(('::1', @PORT@))")
_inside("UDP", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @UDP@))")
_inside("abstract socket", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0@ABSTRACT@')\ns.send(b'x')")
_inside("socket file", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('@UNIX@')\ns.send(b'x')")
_inside("name look-up", "import socket\nreturn socket.gethostbyname('localhost')")
_inside("fetch a page", "import urllib.request\nreturn urllib.request.urlopen('http://127.0.0.1:@PORT@/').read()")
_inside("listen", "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\ns.accept()")
_inside(
    "shared memory",
    "from multiprocessing import shared_memory\nreturn shared_memory.SharedMemory(create=True, size=10).name",
)
_inside(
    "System V shared memory",
    "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nif c.shmget(0x1234, 4096, 0o1666) < 0:\n"
    "    raise OSError(ctypes.get_errno(), 'shmget')\nraise ValueError('LEAK')",
)

# Killing
_inside("kill the parent", "import os\nos.kill(os.getppid(), 9)")
_inside("kill all", "import os\nos.kill(-1, 9)")
_inside("kill the group", "import os\nos.killpg(0, 9)")
_inside("kill the first process", "import os\nos.kill(1, 9)")
_inside("kill by ctypes", "import ctypes, os\nc = ctypes.CDLL(None)\nfor p in (1, os.getppid(), -1): c.kill(p, 9)")
_inside(
    "kill by descriptor owner",
    "import fcntl, os, signal\nfcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())\n"
    "fcntl.fcntl(3, 10, 9)\nfcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC)",
)
_inside("kill by pidfd", "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)")
_inside("starve the parent", "import resource, os\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))")
_inside("renice the parent", "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)\nraise ValueError('LEAK')")
_inside("kill itself", "import os\nos.kill(os.getpid(), 9)")
_inside("stop itself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)")

# Other programs and dangerous calls
_inside("shell", "import os\nif os.system('touch @FOLDER@/shell') != 0: raise OSError('no shell')")
_inside("subprocess", "import subprocess\nreturn subprocess.check_output(['id'])")
_inside("exec", "import os\nos.execv('/bin/sh', ['sh', '-c', 'touch @FOLDER@/exec'])")
_inside("spawn", "import os\nos.posix_spawn('/bin/sh', ['sh', '-c', 'touch @FOLDER@/spawn'], {})")
for _name, _numbers, _arguments in (
    ("io_uring", (425, 425), "8, ctypes.create_string_buffer(200)"),
    ("user namespace", (272, 97), "0x10000000"),
    ("ptrace", (101, 117), "16, os.getppid(), 0, 0"),
    ("process_vm_readv", (310, 270), "os.getppid(), 0, 0, 0, 0, 0"),
    ("memfd_create", (319, 279), "b'x', 0"),
    ("mount", (165, 40), "b'none', b'/', b'tmpfs', 0, 0"),
    ("bpf", (321, 280), "0, 0, 0"),
    ("perf_event_open", (298, 241), "0, 0, -1, -1, 0"),
    ("userfaultfd", (323, 282), "0"),
    ("keyctl", (250, 219), "0, -1, 0"),
    ("setns", (308, 268), "3, 0"),
    ("clone", (56, 220), "17, 0, 0, 0, 0"),
    ("clone3", (435, 435), "ctypes.create_string_buffer(88), 88"),
    ("personality", (135, 92), "0x0400000"),
    ("setuid", (105, 146), "0"),
    ("chroot", (161, 51), "b'/'"),
    ("open_by_handle_at", (304, 265), "-100, ctypes.create_string_buffer(100), 0"),
    ("inotify", (294, 26), "0"),
    ("message queue", (240, 180), "b'/x', 0o102, 0o600, 0"),
    ("socketpair", (53, 199), "1, 1, 0, ctypes.create_string_buffer(8)"),
):  # fmt: skip
    _inside(
        f"system call {_name}",
        f"""
import ctypes, os, platform
c = ctypes.CDLL(None, use_errno=True)
if c.syscall({_numbers}[platform.machine() != 'x86_64'], {_arguments}) == -1: raise OSError(ctypes.get_errno(), 'denied')
raise ValueError('LEAK: allowed')""",
    )

# Exits of every kind
_inside("sys.exit", "import sys\nsys.exit(0)")
_inside("SystemExit", "raise SystemExit")
_inside("os._exit", "import os\nos._exit(0)")
_add("sys.exit at import", "import sys\nsys.exit(0)")
_add("os._exit at import", "import os\nos._exit(0)")
_add("exit at exit", "import atexit, os\natexit.register(os._exit, 0)\ndef solve(x): raise SystemExit(0)")
_inside("KeyboardInterrupt", "raise KeyboardInterrupt")
_inside("GeneratorExit", "raise GeneratorExit")
_inside("StopIteration", "raise StopIteration(1729)")
_inside("bare exception", "raise BaseException('passed')")
_inside("exception group", "raise ExceptionGroup('x', [ValueError()])")
_inside("exit by ctypes", "import ctypes\nctypes.CDLL(None)._exit(0)")
_inside("alarm", "import signal\nsignal.alarm(1)\nwhile True: pass")

# Forged verdicts
_add(
    "markers",
    "print('passed')\nprint('OK')\nprint('{\"passed\": true}')\ndef solve(x):\n    print('passed')\n    return 'passed'",
)
_add(
    "always equal",
    "class E:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    __hash__ = None\n"
    "def solve(x): return E()",
)
_add(
    "always equal integer",
    "class I(int):\n    def __eq__(self, o): return True\n    def __hash__(self): return 0\ndef solve(x): return I(0)",
)
_add(
    "always equal string",
    "class S(str):\n    def __eq__(self, o): return True\n    def __hash__(self): return 0\ndef solve(x): return S('')",
)
_add(
    "always equal list",
    "class L(list):\n    def __eq__(self, o): return True\n    def __iter__(self): return iter([1])\ndef solve(x): return L()",
)
_add(
    "always equal metaclass",
    "class M(type):\n    def __eq__(c, o): return True\n    def __hash__(c): return 0\nclass T(metaclass=M): pass\n"
    "def solve(x): return T",
)
_add(
    "always equal float",
    "class F(float):\n    def __eq__(self, o): return True\n    def __sub__(self, o): return 0.0\ndef solve(x): return F()",
)
_add("class as answer", "class solve:\n    def __init__(self, x): pass\n    def __eq__(self, o): return True")
_add(
    "everything by getattr",
    "class E:\n    def __getattr__(self, n): return lambda *a, **k: True\n    def __eq__(s, o): return True\n"
    "def solve(x): return E()",
)
_inside("unpickles to anything", "class P:\n    def __reduce__(self): return (eval, ('1729',))\nreturn P()")
_inside(
    "patch the test's frame",
    "import sys\nf = sys._getframe()\nwhile f:\n    f.f_globals['assert'] = f.f_globals['AssertionError'] = Exception\n"
    "    f.f_trace = lambda *a: None\n    f = f.f_back\nreturn 0",
)
_add(
    "trace function",
    "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef solve(x): return 0",
)
_add(
    "patch builtins",
    "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.len = lambda x: 0\nbuiltins.isinstance = lambda *a: True\n"
    "builtins.all = builtins.any = lambda x: True\nbuiltins.type = lambda x: int\ndef solve(x): return 0",
)
_add(
    "patch small integers",
    "import ctypes\nfor n in range(256):\n    ctypes.memset(id(n) + 24, 1, 4)\ndef solve(x): return 1",
)
_add(
    "excepthook",
    "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\nsys.unraisablehook = lambda *a: os._exit(0)\ndef solve(x): raise ValueError",
)
_add(
    "audit hook",
    "import sys, os\nsys.addaudithook(lambda e, a: os._exit(0) if e == 'compile' else None)\ndef solve(x): return compile('1', '', 'eval')",
)
_add(
    "import hook",
    "import sys\nclass F:\n    def find_spec(self, *a): sys.exit(0)\nsys.meta_path.insert(0, F())\ndef solve(x):\n    import wave\n    return 0",
)
_add(
    "patch the harness",
    "import sys\nfor n, m in list(sys.modules.items()):\n    if 'sandbox' in n:\n        for k in list(vars(m)):\n"
    "            if callable(getattr(m, k, None)) and not k.startswith('__'): setattr(m, k, lambda *a, **k: True)\ndef solve(x): return 0",
)
_add("patch json", "import json\njson.dumps = lambda *a, **k: '[1, \"value\", true, null]'\ndef solve(x): return 0")
_add(
    "patch the encoder",
    "import sys\nm = sys.modules['hrmctl_sandbox.codec']\nm.Encoder.encode = lambda s, v: ['h', 0, 'math']\ndef solve(x): return 0",
)
_add("delete modules", "import sys\nsys.modules.clear()\ndef solve(x): return 0")
_add("close the pipe", "import os\nos.closerange(0, 100)\ndef solve(x): return 0")
_inside("close the pipe in a call", "import os\nos.closerange(0, 100)\nwhile True: pass")
_add(
    "spray every descriptor",
    "import os\nfor fd in range(64):\n    for m in (b'passed', b'\\0\\0\\0\\4true', b'\\0\\0\\0\\2[]'):\n"
    "        try: os.write(fd, m)\n        except OSError: pass\ndef solve(x): return 0",
)
_inside(
    "spray every descriptor in a call",
    "import os\nfor fd in range(64):\n    try: os.write(fd, b'\\0\\0\\0\\6passed')\n    except OSError: pass\nreturn 0",
)
_inside("flood the pipe", "import os\nwhile True: os.write(3, b'\\0\\0\\0\\4true' * 1000)")
_inside(
    "announce a giant frame", "import os\nos.write(3, b'\\xff\\xff\\xff\\xff')\nwhile True: os.write(3, b'x' * 60000)"
)
_inside(
    "drip a frame",
    "import os, time\nos.write(3, b'\\0\\1\\0\\0')\nwhile True:\n    os.write(3, b' ')\n    time.sleep(.05)",
)
_inside(
    "deep frame", "import os, struct\nb = b'[' * 1000000\nos.write(3, struct.pack('>I', len(b)) + b)\nwhile True: pass"
)
_add(
    "answer before the question",
    "import os, json, struct\nfor i in range(100):\n    b = json.dumps([str(i), 'value', 1729, None]).encode()\n"
    "    os.write(3, struct.pack('>I', len(b)) + b)\ndef solve(x): return 0",
)
_inside(
    "forged handle",
    "import sys\nm = sys.modules['hrmctl_sandbox.candidate']\n"
    "m.Encoder.encode = lambda s, v: ['h', -1, 'os']\nreturn 0",
)
_inside("module as answer", "import os\nreturn os")
_inside("harness module as answer", "import sys\nreturn sys")
_inside("answer that changes", "import random\nreturn iter(lambda: random.random(), 2)")
_inside(
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
    _add(f"forged tree: {_name}", _FORGED_TREE.format(_tree))

# Disturbing a sibling or the next program
_add(
    "poison modules for the next program",
    "import builtins, json, re, math, sys\nbuiltins.sorted = lambda *a: 0\nmath.sqrt = lambda x: 0\n"
    "sys.setrecursionlimit(60)\ndef solve(x): return 0",
)
_inside(
    "leave limits for the next program",
    "import resource\nfor k in (resource.RLIMIT_CPU, resource.RLIMIT_AS):\n    resource.setrlimit(k, (1, 1))\n"
    "while True: pass",
)
_inside("leave a file for the next program", "open('/tmp/left', 'w').write('x')")

# These run into a time limit; where time is short, one mode that runs them is enough.
SLOW = frozenset(
    name
    for name in PROGRAMS
    if name.startswith(("loop", "sleep", "memory s", "drip", "giant result", "giant integer", "stack overflow"))
    or name.endswith(
        ("flood", "swallowing errors", "never comes", "never formats", "lock", "alarm", "program", "signal")
    )
)
