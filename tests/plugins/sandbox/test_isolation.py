"""The mode that is reported is what is enforced; too little of it refuses to run."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import hrmctl_sandbox
import pytest
from hrmctl_sandbox import Limits, Problem, Sample, SandboxUnavailable, judge, landlock, pool, probe
from hrmctl_sandbox.isolation import assess
from hrmctl_sandbox.remote import Remote, RemoteDied, Task
from hrmctl_sandbox.sandbox import Sandbox
from sandbox_machine import offers

PROBLEM = Problem("p", ("assert f(2) == 4",))
GOOD = Sample("p", 0, "def f(x): return x + x")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the layers of Linux")


@pytest.mark.parametrize(
    ("layers", "escaped", "mode"),
    [
        (["seccomp", "namespaces", "landlock"], [], "sealed"),
        (["seccomp", "namespaces"], [], "confined"),
        (["seccomp", "landlock"], [], "confined"),
        (["seccomp"], [], "unsafe"),
        (["namespaces", "landlock"], [], "unsafe"),
        ([], [], "unsafe"),
        (["seccomp", "namespaces", "landlock"], ["read"], "unsafe"),
    ],
)
@LINUX
def test_mode(layers: list[str], escaped: list[str], mode: str) -> None:
    missing = [name for name in ("seccomp", "namespaces", "landlock") if name not in layers]
    found = assess(layers, missing, escaped)
    assert found.mode == mode
    assert found.acceptable == (mode != "unsafe")
    assert all(name in found.remedy for name in missing)
    assert [name for name in found.missing if name.startswith("canary:")] == [f"canary:{name}" for name in escaped]


@LINUX
def test_the_layers_that_this_kernel_offers_are_in_force() -> None:
    found = probe()
    assert {"seccomp", "landlock", "namespaces"} & set(found.layers) == offers()
    assert {"no-new-privileges", "no-capabilities", "resource-limits"} <= set(found.layers)
    assert not [name for name in found.missing if name.startswith("canary")]


@LINUX
@pytest.mark.parametrize(
    ("without", "escapes"),
    [
        ({"seccomp"}, {"connect"}),
        ({"namespaces", "landlock"}, {"read"}),
        ({"seccomp", "namespaces", "landlock"}, {"read", "connect"}),
    ],
)
def test_less_than_confined_is_unsafe_and_refuses_to_run(without: set[str], escapes: set[str]) -> None:
    found = pool.isolation(frozenset(without))
    assert found.mode == "unsafe"
    assert {f"canary:{name}" for name in escapes} <= set(found.missing)
    options = pool.Options(Limits(), workers=1, without=frozenset(without))
    with pytest.raises(SandboxUnavailable, match=r"cannot be contained here .*missing"):
        list(pool.run([PROBLEM], [GOOD], options))


@LINUX
def test_a_judge_process_refuses_too_whatever_it_is_sent() -> None:
    remote = Remote(pool.Options(Limits(), without=frozenset({"seccomp"})))
    try:
        remote.submit(Task(("p", b""), PROBLEM, GOOD.program))
        assert remote.isolation().mode == "unsafe"
        assert Remote.ready([remote], None) == [remote]
        with pytest.raises(RemoteDied):
            remote.receive()
    finally:
        remote.close()


@LINUX
def test_unsafe_runs_only_where_it_is_allowed_and_says_so() -> None:
    options = pool.Options(Limits(), workers=1, allow_unsafe=True, without=frozenset({"seccomp"}))
    with pytest.warns(RuntimeWarning, match="sandbox mode unsafe: missing seccomp"):
        (outcome,) = pool.run([PROBLEM], [GOOD], options)
    assert (outcome.passed, outcome.mode) == (True, "unsafe")


@LINUX
def test_confined_warns_and_names_the_remedy() -> None:
    options = pool.Options(Limits(), workers=1, without=frozenset({"namespaces"}))
    with pytest.warns(RuntimeWarning, match=r"sandbox mode confined: missing namespaces.*user namespaces"):
        (outcome,) = pool.run([PROBLEM], [GOOD], options)
    assert outcome.passed


_INHERITED = """
import os, random, resource

def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True

def inherited():
    limits = [resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("CPU", "NPROC", "NOFILE", "FSIZE")]
    return [dict(os.environ), [number for number in range(200) if is_open(number)], limits]

def draw():
    return random.random()
"""


@LINUX
def test_what_a_program_inherits() -> None:
    sandbox = Sandbox(Limits(cpu_seconds=3))
    drawn = []
    try:
        for _ in range(3):
            session = sandbox.open()
            bound = session.load(_INHERITED, "", ["inherited", "draw"], [])
            assert bound["inherited"]() == [{}, [0, 1, 2, 3], [(5, 6), (0, 0), (64, 64), (0, 0)]]
            drawn.append(bound["draw"]())
            sandbox.close_session(session)
    finally:
        sandbox.close()
    assert len(set(drawn)) == 3


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert probe().mode == "unavailable"
    assert "WSL2" in probe().remedy
    with pytest.raises(SandboxUnavailable, match="WSL2"):
        list(judge([PROBLEM], [GOOD]))


def test_an_interpreter_that_cannot_start_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert probe().mode == "unavailable"
    with pytest.raises(SandboxUnavailable):
        list(judge([PROBLEM], [GOOD]))


def test_the_package_is_self_contained() -> None:
    imported: set[str] = set()
    for path in Path(hrmctl_sandbox.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).split(".")[0])
    assert imported <= set(sys.stdlib_module_names)


# What a container's default seccomp profile does: namespaces may not be made.
_IN_A_CONTAINER = """
import ctypes, os, struct, sys
allow, deny = 0x7fff0000, 0x00050001
numbers = {"x86_64": (272, 165, 155), "aarch64": (97, 40, 41)}[os.uname().machine]
code = struct.pack("=HBBI", 0x20, 0, 0, 0)
for number in numbers:
    code += struct.pack("=HBBI", 0x15, 0, 1, number) + struct.pack("=HBBI", 6, 0, 0, deny)
code += struct.pack("=HBBI", 6, 0, 0, allow)
held = ctypes.create_string_buffer(code, len(code))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
program = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
pointer = ctypes.create_string_buffer(program, len(program))
assert libc.prctl(22, 2, ctypes.c_ulong(ctypes.addressof(pointer)), 0, 0) == 0
"""
_REPORT = """
import warnings
warnings.simplefilter("ignore")
from hrmctl_sandbox import Problem, Sample, judge, probe
read, fork = "def f(x): return open('/etc/passwd').read()", "import os\\ndef f(x): return os.fork()"
programs = ("def f(x): return x + x", read, fork)
samples = [Sample("p", number, program) for number, program in enumerate(programs)]
found = sorted(judge([Problem("p", ("assert f(2) == 4",))], samples, workers=1), key=lambda outcome: outcome.index)
mode = probe().mode
print(mode, [(outcome.passed, outcome.mode) for outcome in found] == [(True, mode), (False, mode), (False, mode)])
"""


@LINUX
def test_in_a_container_without_namespaces() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(hrmctl_sandbox.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_CONTAINER + _REPORT], env=environment, capture_output=True, text=True, check=False
    )
    expected = "confined True" if landlock.abi() else ""
    assert done.stdout.strip() == expected, done.stderr


@LINUX
def test_as_an_ordinary_user(tmp_path: Path) -> None:
    """Root drops to an unprivileged user in a copy of the package that this user can read."""
    python = next((path for path in ("/usr/bin/python3", sys.executable) if _usable_by_all(path)), None)
    if os.geteuid() != 0:
        pytest.skip("every other test runs as an ordinary user already")
    if python is None:
        pytest.skip("no interpreter of a supported version that other users may run")
    copy = tmp_path / "lib" / "hrmctl_sandbox"
    shutil.copytree(Path(hrmctl_sandbox.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("test_", "popen-", "pytest-")):
            folder.chmod(0o755)
    drop = "import os\nos.setgroups([])\nos.setresgid(65534, 65534, 65534)\nos.setresuid(65534, 65534, 65534)\n"
    done = subprocess.run(
        [python, "-c", drop + _REPORT],
        env={"PYTHONPATH": str(copy.parent), "HOME": "/"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == f"{probe().mode} True", done.stderr


def _usable_by_all(python: str) -> bool:
    check = "import os, sys\nos.setresuid(65534, 65534, 65534)\nimport json\nsys.exit(sys.version_info < (3, 11))"
    return (
        os.path.exists(python)
        and subprocess.run([python, "-c", check], check=False, capture_output=True).returncode == 0
    )
