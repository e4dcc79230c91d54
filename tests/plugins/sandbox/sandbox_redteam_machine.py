"""Programs that aim at the machine: its clocks, its memory, its kernel and its files."""

# ruff: noqa: E501
from __future__ import annotations

from sandbox_redteam_register import ATTACKS, KERNEL, Attack, inside

# Loops in C that no Python signal handler interrupts
inside("power of integers", "return pow(3, 10**8)", slow=True)
inside("text of an integer", "import sys\nsys.set_int_max_str_digits(0)\nreturn str(7 ** (10**6))", slow=True)
inside("sum of a repeat", "import itertools\nreturn sum(itertools.repeat(1))", slow=True)
inside("sort with a key", "return sorted(range(10**9), key=lambda i: -i)", slow=True)
inside("membership in a count", "import itertools\nreturn -1 in itertools.count()", slow=True)
inside("exhaust a cycle", "import collections, itertools\ncollections.deque(itertools.cycle('a'), maxlen=0)", slow=True)
inside("factorial", "import math\nreturn math.factorial(10**8)", slow=True)
inside("search that backtracks", "import re\nreturn re.search('(x+x+)+y', 'x' * 40)", slow=True)
inside("permutations", "import itertools\nreturn max(itertools.permutations(range(20)))", slow=True)
inside(
    "compare nested twice over", "a = b = []\nfor _ in range(60): a, b = [a, a], [b, b]\nreturn a == list(b)", slow=True
)
inside("hash of a deep tuple", "t = ()\nfor _ in range(40): t = (t, t)\nreturn hash(t)", slow=True)
inside(
    "decimal power",
    "from decimal import *\nreturn Context(prec=10**6).power(Decimal(3), Decimal('1.00000001'))",
    slow=True,
)
inside("replace that grows", "s = 'a' * 10**4\nwhile True: s = s.replace('a', 'a' * 10**4)[:10**6]", slow=True)
inside(
    "swallow everything in finally",
    "while True:\n    try: raise SystemExit\n    except BaseException: continue\n    finally: continue",
    slow=True,
)
inside(
    "catch the CPU signal", "import signal\nsignal.signal(signal.SIGXCPU, lambda *a: None)\nwhile True: pass", slow=True
)
inside("lock step by select", "import select\nselect.select([], [], [])", slow=True)
inside("wait by poll on the pipe", "import select\np = select.poll()\np.register(3, 0)\np.poll()", slow=True)
inside("read the pipe for ever", "import os\nwhile True: os.read(3, 1)", slow=True)

# Clocks
inside("sleep to the limit", "import time\ntime.sleep(1.45)\nreturn 0", slow=True)
inside(
    "timers",
    "import signal\nsignal.setitimer(signal.ITIMER_REAL, .001, .001)\nsignal.setitimer(signal.ITIMER_PROF, .001, .001)\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
    slow=True,
)
inside(
    "raise the CPU limit",
    "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))\nraise ValueError('LEAK')",
)
inside(
    "raise the memory limit",
    "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nraise ValueError('LEAK')",
)
inside(
    "raise the process limit",
    "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (10, 10))\nraise ValueError('LEAK')",
)
inside(
    "raise the file limit",
    "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\nraise ValueError('LEAK')",
)
inside("a higher priority", "import os\nos.nice(-5)\nraise ValueError('LEAK')")
inside("another processor", "import os\nos.sched_setaffinity(0, {0})\nraise ValueError('LEAK')")
inside(
    "another scheduler",
    "import os\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\nraise ValueError('LEAK')",
)
inside("yield the processor", "import os\nwhile True: os.sched_yield()", slow=True)

# Memory and crashes
inside(
    "compile what is nested",
    "import ast\ns = '(' * 150 + ')' * 150\nwhile True: s = f'[{s},{s}]'; ast.parse(s)",
    slow=True,
)
inside(
    "tree too deep for the compiler",
    "import ast\nn = ast.Constant(1)\nfor _ in range(10**5): n = ast.UnaryOp(ast.USub(), n)\nreturn eval(compile(ast.fix_missing_locations(ast.Expression(n)), 'x', 'eval'))",
)
inside("regular expression too deep", "import re\nreturn re.compile('(' * 10**5 + ')' * 10**5)")
inside("width of a format", "return '%*d' % (1 << 40, 1)")
inside("width in a format", "return f'{1:{1 << 40}}'")
inside(
    "chain of iterators",
    "import itertools\ni = iter([1])\nfor _ in range(10**6): i = itertools.chain(i, [1])\nreturn next(i)",
    slow=True,
)
inside(
    "chain of deques freed",
    "import collections\nd = None\nfor _ in range(10**6): d = collections.deque([d])\nd = None",
    slow=True,
)
inside(
    "code object by hand",
    "import types\nf = lambda: 0\nf.__code__ = f.__code__.replace(co_code=bytes(range(2, 250, 2)) * 9, co_stacksize=0)\nreturn f()",
)
inside("jump into nothing", "import ctypes\nreturn ctypes.CFUNCTYPE(ctypes.c_int)(8)()")
inside("overwrite the interpreter", "import ctypes\nctypes.memset(id(int), 0, 400)\nreturn int(5)")
inside(
    "marshalled nonsense",
    "import marshal, types\nreturn types.FunctionType(marshal.loads(marshal.dumps(solve.__code__)[:60] + bytes(200)), {})()",
)
inside("nested references", "a = []\nfor _ in range(50): a = (a, a)\nreturn a", slow=True)
inside("instances without end", "class A: pass\nk = None\nwhile True:\n    a = A()\n    a.k = k\n    k = a", slow=True)
inside("texts without end", "k = {}\nwhile True: k[len(k)] = str(len(k)) * 100", slow=True)
inside("map memory without end", "import mmap\nk = []\nwhile True: k.append(mmap.mmap(-1, 1 << 20))")
inside(
    "ignore a lack of memory for ever",
    "k = []\nwhile True:\n    try: k.append(' ' * (1 << 20))\n    except MemoryError: k.append(k)",
    slow=True,
)

# The kernel
for _name, _numbers, _arguments in (
    ("vfork", (58, 220), "0x4111, 0, 0, 0, 0"),
    ("execveat", (322, 281), "-100, b'/bin/sh', 0, 0, 0"),
    ("process_vm_writev", (311, 271), "os.getppid(), 0, 0, 0, 0, 0"),
    ("pidfd_getfd", (438, 438), "3, 0, 0"),
    ("pidfd_open", (434, 434), "1, 0"),
    ("kcmp", (312, 272), "os.getpid(), os.getppid(), 0, 0, 0"),
    ("io_uring_enter", (426, 426), "3, 1, 0, 0, 0"),
    ("unshare", (272, 97), "0x20000"),
    ("seccomp", (317, 277), "1, 1, 0"),
    ("prctl dumpable", (157, 167), "4, 1, 0, 0, 0"),
    ("prctl death signal", (157, 167), "1, 0, 0, 0, 0"),
    ("prctl name", (157, 167), "15, b'init', 0, 0, 0"),
    ("prctl subreaper", (157, 167), "36, 1, 0, 0, 0"),
    ("arch_prctl", (158, 500), "0x1002, 0"),
    ("rt_sigqueueinfo", (129, 138), "os.getppid(), 9, ctypes.create_string_buffer(128)"),
    ("tgkill", (234, 131), "os.getppid(), os.getppid(), 9"),
    ("tkill", (200, 130), "os.getppid(), 9"),
    ("setsid", (112, 157), ""),
    ("setpgid", (109, 154), "0, 0"),
    ("shmat", (30, 196), "0, 0, 0"),
    ("semget", (64, 190), "0x77, 1, 0o1666"),
    ("msgget", (68, 186), "0x77, 0o1666"),
    ("timer_create", (222, 107), "1, 0, ctypes.create_string_buffer(8)"),
    ("timerfd_create", (283, 85), "1, 0"),
    ("signalfd", (289, 74), "-1, ctypes.create_string_buffer(8), 8, 0"),
    ("eventfd", (290, 19), "0, 0"),
    ("fanotify", (300, 262), "0, 0"),
    ("name_to_handle_at", (303, 264), "-100, b'/', ctypes.create_string_buffer(200), ctypes.create_string_buffer(8), 0"),
    ("mincore", (27, 232), "0, 4096, 0"),
    ("migrate_pages", (256, 238), "0, 0, 0, 0"),
    ("move_pages", (279, 239), "os.getppid(), 0, 0, 0, 0, 0"),
    ("process_madvise", (440, 440), "3, 0, 0, 0, 0"),
    ("pkey_alloc", (330, 289), "0, 0"),
    ("landlock_create_ruleset", (444, 444), "0, 0, 1"),
    ("openat2", (437, 437), "-100, b'/etc/passwd', ctypes.create_string_buffer(24), 24"),
    ("open_tree", (428, 428), "-100, b'/', 1"),
    ("move_mount", (429, 429), "-100, b'/', -100, b'/dev', 0"),
    ("fsopen", (430, 430), "b'tmpfs', 0"),
    ("mount_setattr", (442, 442), "-100, b'/', 0, 0, 0"),
    ("pivot_root", (155, 41), "b'/', b'/'"),
    ("chdir", (80, 49), "b'/'"),
    ("fchdir", (81, 50), "3"),
    ("acct", (163, 89), "b'/dev/null'"),
    ("syslog", (103, 116), "3, 0, 0"),
    ("reboot", (169, 142), "0, 0, 0, 0"),
    ("sethostname", (170, 161), "b'x', 1"),
    ("settimeofday", (164, 170), "0, 0"),
    ("adjtimex", (159, 171), "ctypes.create_string_buffer(300)"),
    ("kexec_load", (246, 104), "0, 0, 0, 0"),
    ("finit_module", (313, 273), "3, b'', 0"),
    ("quotactl", (179, 60), "0, 0, 0, 0"),
    ("add_key", (248, 217), "b'user', b'x', b'y', 1, -2"),
    ("ioprio_set", (251, 30), "1, 0, 0"),
    ("setpriority", (141, 140), "0, 0, 19"),
    ("sendmsg", (46, 211), "3, 0, 0"),
    ("sendto", (44, 206), "3, b'x', 1, 0, 0, 0"),
    ("recvmsg", (47, 212), "3, 0, 0"),
    ("getpeername", (52, 205), "3, 0, 0"),
    ("getsockopt", (55, 209), "3, 1, 17, 0, 0"),
    ("splice", (275, 76), "3, 0, 3, 0, 1, 0"),
    ("vmsplice", (278, 75), "1, 0, 0, 0"),
    ("copy_file_range", (326, 285), "0, 0, 1, 0, 1, 0"),
    ("fallocate", (285, 47), "1, 0, 0, 4096"),
    ("memfd_secret", (447, 447), "0"),
    ("modify_ldt", (154, 500), "1, 0, 0"),
    ("ioperm", (173, 500), "0, 1, 1"),
    ("iopl", (172, 500), "3"),
    ("vhangup", (153, 58), ""),
    ("swapon", (167, 224), "b'/dev/null', 0"),
    ("nfsservctl", (180, 42), "0, 0, 0"),
    ("prlimit of the parent", (302, 261), "os.getppid(), 7, 0, 0"),
    ("robust list of the parent", (274, 100), "os.getppid(), 0, 0"),
    ("scheduling of the parent", (315, 275), "os.getppid(), ctypes.create_string_buffer(64), 64, 0"),
    ("dup by fcntl with an owner", (72, 25), "3, 8, os.getppid()"),
    ("lease", (72, 25), "1, 1024, 0"),
    ("number beyond all", (0x7FF, 0x7FF), "0"),
):  # fmt: skip
    inside(f"kernel: {_name}", f"kernel({_numbers}, {_arguments})".replace(", )", ")"))
    ATTACKS[f"kernel: {_name}"] = Attack(KERNEL + ATTACKS[f"kernel: {_name}"].program)
for _name, _code in (
    # mov eax, N; int 0x80; ret: the 32-bit gate, where 2 is fork and 11 execve
    ("fork by the 32-bit gate", "b8 02 00 00 00 cd 80 c3"),
    ("exit by the 32-bit gate", "b8 01 00 00 00 31 db cd 80 c3"),
    # mov eax, 0x40000000 | N; syscall; ret: the x32 numbers
    ("fork by x32", "b8 39 00 00 40 0f 05 c3"),
    ("getpid by x32", "b8 27 00 00 40 0f 05 c3"),
    ("fork by machine code", "b8 39 00 00 00 0f 05 c3"),
    ("call of no number", "b8 ff ff ff ff 0f 05 c3"),
    ("sysenter", "b8 02 00 00 00 0f 34 c3"),
    ("halt", "f4"),
    ("spin", "eb fe"),
):  # fmt: skip
    inside(
        f"machine code: {_name}",
        f"import ctypes, mmap, platform\nif platform.machine() != 'x86_64': raise OSError('other machine')\n"
        f"m = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('{_code}'))\n"
        "n = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\n"
        "if n < 0: raise OSError(-n, 'denied')\nraise ValueError('LEAK: %d' % n)",
        slow=_name == "spin",
    )

# Reading
inside(
    "read every file in sight",
    "import os\nfor d, _, fs in os.walk('/'):\n    for f in fs:\n        if f.endswith(('.canary', '.env', 'shadow', 'passwd')): raise ValueError('LEAK ' + d + f)\nraise ValueError('none')",
)
inside(
    "read by every name of the process",
    "for n in ('self', '1', 'thread-self'):\n    for f in ('mem', 'maps', 'environ', 'cmdline', 'fd', 'root/etc/passwd', 'cwd'):\n        try: open(f'/proc/{n}/{f}', 'rb').read(10)\n        except (OSError, IsADirectoryError): continue\n        raise ValueError('LEAK ' + n + f)\nraise ValueError('none')",
)
inside(
    "read the environment by ctypes",
    "import ctypes\ne = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')\ni = 0\nwhile e and e[i]:\n    if not e[i].startswith(b'LC_CTYPE='): raise ValueError('LEAK ' + repr(e[i]))\n    i += 1\nraise ValueError('none')",
)
inside(
    "read a program of before",
    "import gc\nfor o in gc.get_objects():\n    if type(o) is dict and '__name__' in o and o['__name__'] == 'program' and 'math' in str(o.get('solve')): raise ValueError('LEAK')\nraise ValueError('none')",
)
inside(
    "read the modules of the judge",
    "import sys\nfound = [n for n in sys.modules if n.split('.')[-1] in ('grading', 'preparation', 'session', 'worker', 'pool')]\nif found: raise ValueError('LEAK ' + str(found))\nraise ValueError('none')",
)
inside(
    "import the judge",
    "import importlib\nfor n in ('grading', 'preparation', 'session', 'worker'):\n    try: importlib.import_module('hrmctl_sandbox.' + n)\n    except ImportError: continue\n    raise ValueError('LEAK')\nraise ValueError('none')",
)
inside(
    "descriptors left open",
    "import os\nfound = []\nfor n in range(4, 64):\n    try: found.append((n, os.fstat(n).st_mode))\n    except OSError: pass\nif found: raise ValueError('LEAK ' + str(found))\nraise ValueError('none')",
)
inside(
    "read a device",
    "for n in ('zero', 'random', 'tty', 'kmsg', 'mem', 'sda', 'fuse', 'kvm', 'shm', 'pts/0'):\n    try: open('/dev/' + n, 'rb').read(1)\n    except OSError: continue\n    raise ValueError('LEAK ' + n)\nraise ValueError('none')",
)
inside(
    "write to what is read only",
    "import os\nfor p in (os.__file__, '/x', '/dev/x', '/lib/x', os.path.dirname(os.__file__) + '/x'):\n    try: open(p, 'ab').close()\n    except OSError: continue\n    raise ValueError('LEAK ' + p)\nraise ValueError('none')",
)
inside(
    "climb out by descriptors",
    "import os\nd = os.open('/', os.O_RDONLY | os.O_DIRECTORY)\nfor _ in range(20): d = os.open('..', os.O_RDONLY | os.O_DIRECTORY, dir_fd=d)\nraise ValueError('LEAK' + os.read(os.open('etc/passwd', 0, dir_fd=d), 10).decode())",
)
inside(
    "unnamed file",
    "import os\nfor p in ('/', '/tmp', '/dev', '@FOLDER@'):\n    try: os.open(p, os.O_TMPFILE | os.O_RDWR, 0o600)\n    except OSError: continue\n    raise ValueError('LEAK')\nraise ValueError('none')",
)
inside("link to the outside", "import os\nos.link('@SECRET@', '/dev/linked')\nraise ValueError('LEAK')")
inside("change the times of a file", "import os\nos.utime('@VICTIM@', (0, 0))\nraise ValueError('LEAK')")
inside("attributes of a file", "import os\nos.setxattr('@VICTIM@', 'user.x', b'y')\nraise ValueError('LEAK')")
inside("a named pipe", "import os\nos.mkfifo('@FOLDER@/fifo')\nraise ValueError('LEAK')")
inside(
    "map a file to write", "import mmap, os\nmmap.mmap(os.open(os.__file__, os.O_RDWR), 10)\nraise ValueError('LEAK')"
)
inside("truth from the clock of the parent", "import time, os\nreturn time.clock_gettime((~os.getppid() << 3) | 2)")
