"""Third-party packages: loaded where asked for, readable and nothing else, their results plain data."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from hrmctl_sandbox import ErrorClass, Limits, Outcome, Problem, Sample, judge, pool, probe
from hrmctl_sandbox.packages import locate
from sandbox_machine import offers

LIMITS = Limits(cpu_seconds=2.0, wall_seconds=20.0)
np = pytest.importorskip("numpy")


def outcomes(
    problem: Problem, *programs: str, packages: Sequence[str] = ("numpy",), limits: Limits = LIMITS
) -> list[Outcome]:
    """The outcomes of some programs for one problem, in the order of the programs."""
    samples = [Sample(problem.id, number, program) for number, program in enumerate(programs)]
    return sorted(judge([problem], samples, limits=limits, workers=1, packages=packages), key=lambda item: item.index)


def test_what_is_not_installed_is_named_at_once() -> None:
    for bad in ("nonesuch", "nonesuch.part", "numpy.nonesuch", "unittest.nonesuch", "", "../numpy", "numpy..linalg"):
        with pytest.raises(ValueError, match=f"packages: '{bad}' is not installed"):
            judge([], [], packages=("numpy", bad))
    with pytest.raises(ValueError, match="'nonesuch'"):
        probe(packages=["nonesuch"])


def test_what_a_package_needs_is_found() -> None:
    found = locate(["numpy", "numpy.linalg", "json"])
    assert found.names == ("numpy", "numpy.linalg", "json")
    names = {os.path.basename(path) for path in found.paths}
    beside = {path.name for path in Path(np.__file__).parent.parent.glob("numpy*")}
    assert "numpy" in names
    assert names == {name for name in beside if name.startswith(("numpy-", "numpy.libs")) or name == "numpy"}
    assert locate(["json"]).paths == ()
    assert locate(["yaml"]).names == ("yaml",)
    assert "_yaml" in {os.path.basename(path) for path in locate(["yaml"]).paths}


def test_a_program_imports_what_it_was_given_and_nothing_else() -> None:
    problem = Problem("p", ("assert f() == 6",))
    sums = "import numpy as np\ndef f(): return np.arange(4).sum()"
    given, other = outcomes(problem, sums, "import yaml\ndef f(): return 6")
    assert given.passed, given
    assert other.detail == "ModuleNotFoundError: No module named 'yaml'"
    (without,) = outcomes(problem, sums, packages=())
    assert without.detail == "ModuleNotFoundError: No module named 'numpy'"


def test_a_package_is_loaded_once_for_all_programs() -> None:
    program = "import sys\nloaded = 'numpy' in sys.modules\nimport numpy\ndef f(): return loaded  # "
    found = outcomes(Problem("p", ("assert f()",)), *(program + str(number) for number in range(3)))
    assert [outcome.detail for outcome in found] == [""] * 3


VALUES = [
    ("np.array([[1, 2], [3, 4]])", "[[1, 2], [3, 4]]"), ("np.float64(1.5)", "1.5"), ("np.float32(0.5)", "0.5"),
    ("np.int64(3)", "3"), ("np.bool_(True)", "True"), ("np.str_('x')", "'x'"), ("np.complex64(1j)", "1j"),
    ("[np.int8(1), {'a': np.zeros(2)}, (np.uint8(255),)]", "[1, {'a': [0.0, 0.0]}, (255,)]"), ("np.array(7)", "7"),
    ("{np.int64(1): {np.int64(2)}}", "{1: {2}}"), ("np.array([None, 'a'], dtype=object)", "[None, 'a']"),
    ("[x := [1], np.array([2]), x]", "[[1], [2], [1]]"), ("np.array([])", "[]"),
]  # fmt: skip


def test_results_of_numpy_are_plain_data() -> None:
    tests = "".join(f"assert f({index}) == {expected}\n" for index, (_, expected) in enumerate(VALUES))
    tests += "".join(f"assert type(f({index})) is type({expected})\n" for index, (_, expected) in enumerate(VALUES))
    tests += "y = f(11)\nassert y[0] is y[2]\nassert type(f(2)) is float\n"
    body = "\n".join(f"    if n == {index}: return {value}" for index, (value, _) in enumerate(VALUES))
    (found,) = outcomes(Problem("p", (tests,)), f"import numpy as np\ndef f(n):\n{body}")
    assert found.passed, found


def test_a_program_cannot_pass_itself_off_as_numpy() -> None:
    program = (
        "class Array:\n    def tolist(self): return {answer}\n    def __eq__(self, other): return True\n"
        "Array.__module__ = 'numpy'\ndef f(): return Array()"
    )
    lies = [program.replace("{answer}", answer) for answer in ("3", "Array()", "self", "1 / 0", "[self]")]
    found = outcomes(Problem("p", ("assert f() == 4",)), *lies)
    assert [outcome.passed for outcome in found] == [False] * 5
    assert found[0].error is ErrorClass.WRONG_ANSWER


def test_what_one_thread_can_do() -> None:
    program = (
        "import numpy as np\nimport numpy.fft, os\ndef f():\n    a = np.random.rand(300, 300) + 300 * np.eye(300)\n"
        "    b = np.linalg.inv(a @ a)\n    return b.shape == (300, 300) and len(np.fft.fft(b)) == 300"
    )
    assert outcomes(Problem("p", ("assert f()",)), program)[0].passed


def test_each_program_has_random_numbers_of_its_own() -> None:
    program = "import numpy as np\ndef f(): raise ValueError(np.random.random())  # "
    found = outcomes(Problem("p", ("f()",)), program + "1", program + "2", packages=("numpy", "numpy.random"))
    assert {outcome.error for outcome in found} == {ErrorClass.RUNTIME}
    assert found[0].detail != found[1].detail


def test_the_memory_limit_is_the_programs_own() -> None:
    """A limit in which numpy itself would hardly fit leaves the program all of it."""
    program = "import numpy as np\ndef f(n): return np.ones(n, dtype='int8').size"
    limits = Limits(cpu_seconds=2, wall_seconds=20, memory_bytes=96 << 20)
    assert outcomes(Problem("p", ("assert f(32 << 20) == 32 << 20",)), program, limits=limits)[0].passed
    (found,) = outcomes(Problem("p", ("assert f(96 << 20) == 96 << 20",)), program, limits=limits)
    assert found.error is ErrorClass.MEMORY


OUTSIDE = [
    "open({secret!r}).read()", "open('/etc/passwd').read()", "open(np.__path__[0] + '/planted', 'w')",
    "open({here!r} + '/planted', 'w')", "os.listdir({beside!r})", "open({beside!r} + '/__init__.py').read()",
    "np.fromfile({secret!r})", "np.ones(3).tofile({here!r} + '/planted')", "os.fork()", "os.listdir('/proc')",
    "os.remove(np.__file__)", "threading.Thread(target=print).start()",
]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the layers of Linux")
@pytest.mark.parametrize("without", [(), ("namespaces",), ("landlock",)])
def test_nothing_outside_is_in_reach(without: tuple[str, ...], tmp_path: Path) -> None:
    if not {"seccomp", "landlock", "namespaces"} - set(without) <= offers():
        pytest.skip("this kernel offers less")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    tmp_path.chmod(0o755)
    places = {"secret": str(secret), "here": str(tmp_path), "beside": str(Path(pytest.__file__).parent)}
    head = "import os, threading\nimport numpy as np\nimport numpy.fft, numpy.random, numpy.polynomial\ndef f():\n    "
    programs = [head + "return " + attack.format(**places) for attack in OUTSIDE] + [head + "return True"]
    samples = [Sample("p", number, program) for number, program in enumerate(programs)]
    options = pool.Options(LIMITS, 1, without=frozenset(without), packages=locate(["numpy"]))
    with pytest.warns(RuntimeWarning) if without else nullcontext():
        found = sorted(pool.run([Problem("p", ("assert f() is True",))], samples, options), key=lambda item: item.index)
    assert found[-1].passed, found[-1]
    for attack, outcome in zip(OUTSIDE, found, strict=False):
        assert outcome.error is ErrorClass.RUNTIME, (attack, outcome)
        assert outcome.detail.startswith(("FileNotFoundError", "PermissionError", "OSError", "RuntimeError")), outcome
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_other_packages_beside_it_are_not_seen() -> None:
    folder = str(Path(np.__file__).parent.parent)
    program = f"import os\ndef f(): return sorted(os.listdir({folder!r}))"
    (found,) = outcomes(Problem("p", ("assert {name[:5] for name in f()} == {'numpy'}",)), program)
    # Where there are no namespaces the folder cannot be listed at all.
    assert found.passed or found.detail.startswith("PermissionError"), found


def test_probe_with_packages_is_as_tight() -> None:
    assert probe(packages=["numpy"]) == probe()
