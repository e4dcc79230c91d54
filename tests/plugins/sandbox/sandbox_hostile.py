"""Programs that attack the machine around them, with those of sandbox_forgery.

@SECRET@ is a readable file outside, @VICTIM@ a writable one, @FOLDER@ a writable folder, @PORT@ a listening TCP port,
@UDP@ a UDP port, @ABSTRACT@ an abstract socket, @UNIX@ a socket file, @HARNESS@ the package's folder.
"""

# ruff: noqa: E501
from __future__ import annotations

import sandbox_forgery
from sandbox_attack import PROGRAMS, add, inside, leak

__all__ = ["PROGRAMS", "SLOW", "sandbox_forgery"]

# Loops, sleep and other ways of never answering
inside("loop", "while True: pass")
inside("loop swallowing exceptions", "while True:\n    try:\n        while True: pass\n    except BaseException: pass")
inside("loop in C", "return sum(range(10**12))")
inside("loop in a regular expression", "import re\nreturn re.match(r'(a+)+$', 'a' * 60 + 'b')")
inside("loop in a big power", "return 7 ** (7 ** 12)")
add("loop at import", "while True: pass")
inside("sleep", "import time\ntime.sleep(1000)")
inside(
    "sleep without signals",
    "import time, signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\ntime.sleep(1000)",
)
inside("wait for a line that never comes", "import os\nr, w = os.pipe()\nos.read(r, 1)")
inside("ignore the CPU signal", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass")
add("lock", "import threading\nlock = threading.Lock()\nlock.acquire()\ndef solve(x): lock.acquire()")

# Memory, processes, threads, disk, output
inside("memory at once", "return len(bytearray(1 << 40))")
inside("memory step by step", "keep = []\nwhile True: keep.append(bytearray(1 << 24))")
inside(
    "memory swallowing errors",
    "keep = []\nwhile True:\n    try: keep.append(bytearray(1 << 22))\n    except MemoryError: pass",
)
inside("memory by mmap", "import mmap\nkeep = [mmap.mmap(-1, 1 << 30) for _ in range(64)]\nreturn len(keep)")
inside("memory by string", "s = 'x'\nwhile True: s += s")
inside("fork bomb", "import os\nwhile True: os.fork()")
inside("fork bomb swallowing errors", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
inside("thread bomb", "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(1000,)).start()")
inside("raw thread bomb", "import _thread, time\nwhile True: _thread.start_new_thread(time.sleep, (1000,))")
inside("process pool", "import multiprocessing\nreturn multiprocessing.Pool(4).map(len, ['a'])")
inside(
    "fill the disk",
    "import os\nfor place in ('@FOLDER@', '/tmp', '/dev/shm', '/var/tmp', '.'):\n    try:\n"
    "        with open(place + '/filled', 'wb') as f:\n            f.write(b'x' * 1000)\n    except OSError as e: pass\nreturn x",
)
inside("output flood", "while True: print('x' * 100000)")
inside("error output flood", "import os\nwhile True: os.write(2, b'x' * 100000)")
inside("every descriptor", "import resource\nkeep = []\nwhile True: keep.append(open('/dev/null'))")
inside(
    "daemon outliving the verdict",
    "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        import time\n"
    "        time.sleep(3)\n        open('@FOLDER@/daemon', 'w').close()\nreturn x",
)

# Crashes
inside("segmentation fault", "import ctypes\nreturn ctypes.string_at(0)")
inside("abort", "import os\nos.abort()")
inside(
    "stack overflow in C",
    "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nreturn repr(x)",
)
inside("recursion", "return solve(x)")
add("compiler crash by parentheses", "solve = " + "(" * 5000 + "1" + ")" * 5000)
add("compiler crash by operators", "solve = " + "-" * 100000 + "1")
add(
    "compiler crash by nested lists", "x = " + "[" * 90 + "]" * 90 + "\ndef solve(x): return " + "+".join(["1"] * 20000)
)
add("compiler memory", "def solve(x): return (1,) * (1 << 40)\ny = 'x' * (1 << 40)")

# Giant or malformed answers
inside("giant exception", "raise ValueError('x' * (1 << 28))")
inside("giant exception by type name", "raise type('E' * (1 << 24), (ValueError,), {})('x')")
inside("exception whose text raises", "class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E()")
inside(
    "exception that never formats", "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E()"
)
inside("giant result", "return 'x' * (1 << 28)")
inside("giant list", "return [0] * (1 << 26)")
inside("giant integer", "return 1 << (1 << 28)")
inside("integer too long to print", "return 10 ** 6000")
inside("deeply nested result", "r = []\nfor _ in range(100000): r = [r]\nreturn r")
inside("cyclic result", "r = []\nr.append(r)\nreturn r")
inside("colliding set", "return {i * ((1 << 61) - 1) for i in range(1, 20000)}")
inside("endless iterator", "import itertools\nreturn itertools.count()")
inside("not a number", "return float('nan')")

# Bad source
add("NUL in source", "def solve(x): return 1\n\0")
add("lone surrogate in source", "def solve(x): return '\ud800'\n")
add("lone surrogate in the middle", "s = '\udfff'")
inside("lone surrogate as result", "return '\\ud800'")
add("byte order mark", "\ufeff\ufeffdef solve(x): return x")
add("no source", "")
add("binary source", "".join(map(chr, range(1, 256))))
add("endless line", "solve = " + "a" * 1_000_000)

# Reading
leak("read a secret", "open('@SECRET@').read()")
leak("read a secret by descriptor", "__import__('os').read(__import__('os').open('@SECRET@', 0), 100)")
leak(
    "read a secret by ctypes",
    "(lambda c, b: (c.read(c.open(b'@SECRET@', 0), b, 100), b.raw))"
    "(__import__('ctypes').CDLL(None), __import__('ctypes').create_string_buffer(100))",
)
leak("read a secret by import", "(__import__('sys').path.insert(0, '@FOLDER@'), __import__('planted').TOKEN)")
leak("read a secret by link", "__import__('os').readlink('@FOLDER@/link')")
leak(
    "read a secret through the standard library",
    "open(__import__('os').__file__[:-5] + '/../../../../../..@SECRET@').read()",
)
leak("list a folder", "__import__('os').listdir('@FOLDER@')")
leak("read passwords", "'LEAK' + open('/etc/passwd').read()")
leak("read the environment", "'LEAK' + __import__('os').environ['PATH']")
leak("read the parent's environment", "'LEAK' + open('/proc/%d/environ' % __import__('os').getppid()).read()")
leak("read the parent's memory", "'LEAK' + str(open('/proc/%d/mem' % __import__('os').getppid(), 'rb').read(10))")
leak("read the parent's arguments", "'LEAK' + open('/proc/%d/cmdline' % __import__('os').getppid()).read()")
leak("read the harness", "'LEAK' + open('@HARNESS@/grading.py').read()")
leak("read installed packages", "'LEAK' + str(__import__('pytest'))")
inside(
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
inside(
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
inside(
    "read the tests from memory",
    """
import ctypes
try: maps = open('/proc/self/maps').read()
except OSError: raise ValueError('no maps')
raise ValueError('LEAK')""",
)

# Writing and deleting
inside("overwrite a file", "open('@VICTIM@', 'w').write('owned')")
inside("delete a file", "import os\nos.unlink('@VICTIM@')")
inside("rename a file", "import os\nos.rename('@VICTIM@', '@FOLDER@/renamed')")
inside("truncate a file", "import os\nos.truncate('@VICTIM@', 0)")
inside("change a file's mode", "import os\nos.chmod('@VICTIM@', 0o777)")
inside("make a folder", "import os\nos.mkdir('@FOLDER@/made')")
inside("make a link", "import os\nos.symlink('/etc', '@FOLDER@/linked')")
inside("delete the standard library", "import os, shutil\nshutil.rmtree(os.path.dirname(os.__file__))")
inside(
    "write through ctypes",
    "import ctypes\nc = ctypes.CDLL(None)\nc.write(c.open(b'@FOLDER@/ctypes', 0o101, 0o644), b'x', 1)",
)

# Network and other channels
inside("TCP", "import socket\nsocket.create_connection(('127.0.0.1', @PORT@), 1).send(b'x')")
inside("TCP by address family", "import socket\ns = socket.socket(socket.AF_INET6)\ns.connect(('::1', @PORT@))")
inside("UDP", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @UDP@))")
inside("abstract socket", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0@ABSTRACT@')\ns.send(b'x')")
inside("socket file", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('@UNIX@')\ns.send(b'x')")
inside("name look-up", "import socket\nreturn socket.gethostbyname('localhost')")
inside("fetch a page", "import urllib.request\nreturn urllib.request.urlopen('http://127.0.0.1:@PORT@/').read()")
inside("listen", "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\ns.accept()")
inside(
    "shared memory",
    "from multiprocessing import shared_memory\nreturn shared_memory.SharedMemory(create=True, size=10).name",
)
inside(
    "System V shared memory",
    "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nif c.shmget(0x1234, 4096, 0o1666) < 0:\n"
    "    raise OSError(ctypes.get_errno(), 'shmget')\nraise ValueError('LEAK')",
)

# Killing
inside("kill the parent", "import os\nos.kill(os.getppid(), 9)")
inside("kill all", "import os\nos.kill(-1, 9)")
inside("kill the group", "import os\nos.killpg(0, 9)")
inside("kill the first process", "import os\nos.kill(1, 9)")
inside("kill by ctypes", "import ctypes, os\nc = ctypes.CDLL(None)\nfor p in (1, os.getppid(), -1): c.kill(p, 9)")
inside(
    "kill by descriptor owner",
    "import fcntl, os, signal\nfcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())\n"
    "fcntl.fcntl(3, 10, 9)\nfcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC)",
)
inside("kill by pidfd", "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)")
inside("starve the parent", "import resource, os\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))")
inside("renice the parent", "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)\nraise ValueError('LEAK')")
inside("kill itself", "import os\nos.kill(os.getpid(), 9)")
inside("stop itself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)")

# Other programs and dangerous calls
inside("shell", "import os\nif os.system('touch @FOLDER@/shell') != 0: raise OSError('no shell')")
inside("subprocess", "import subprocess\nreturn subprocess.check_output(['id'])")
inside("exec", "import os\nos.execv('/bin/sh', ['sh', '-c', 'touch @FOLDER@/exec'])")
inside("spawn", "import os\nos.posix_spawn('/bin/sh', ['sh', '-c', 'touch @FOLDER@/spawn'], {})")
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
    inside(
        f"system call {_name}",
        f"""
import ctypes, os, platform
c = ctypes.CDLL(None, use_errno=True)
if c.syscall({_numbers}[platform.machine() != 'x86_64'], {_arguments}) == -1: raise OSError(ctypes.get_errno(), 'denied')
raise ValueError('LEAK: allowed')""",
    )

# These run into a time limit; where time is short, one mode that runs them is enough.
SLOW = frozenset(
    name
    for name in PROGRAMS
    if name.startswith(("loop", "sleep", "memory s", "drip", "giant result", "giant integer", "stack overflow"))
    or name.endswith(
        ("flood", "swallowing errors", "never comes", "never formats", "lock", "alarm", "program", "signal")
    )
)
