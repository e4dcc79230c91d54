"""`hrmctl plugins new`: what it writes installs and passes its own tests; what it refuses it leaves alone."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from string import Template

import pytest

import hrmctl
from hrmctl.errors import InputError
from hrmctl.scaffold import write_plugin

from .lab import command, listing

FILES = [
    "README.md",
    "contracts/long-words.yaml",
    "hrmctl_sparse_moe/__init__.py",
    "hrmctl_sparse_moe/measure.py",
    "hrmctl_sparse_moe/params.py",
    "hrmctl_sparse_moe/stage.py",
    "pyproject.toml",
    "recipes/data.jsonl",
    "recipes/example.yaml",
    "tests/test_plugin.py",
]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return write_plugin("sparse-moe", tmp_path)


def test_it_writes_a_whole_distribution(made: Path, tmp_path: Path) -> None:
    assert made == tmp_path / "hrmctl-sparse-moe"
    assert sorted(str(p.relative_to(made)) for p in made.rglob("*") if p.is_file()) == FILES
    assert os.listdir(tmp_path) == ["hrmctl-sparse-moe"]
    assert made.stat().st_mode & 0o077 == 0o055 & ~_umask()
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    assert project["name"] == "hrmctl-sparse-moe"
    assert project["entry-points"]["hrmctl"] == {"sparse-moe": "hrmctl_sparse_moe"}
    assert project["dependencies"] == [f"hrmctl>={hrmctl.__version__}"]
    for path in made.rglob("*.*"):
        assert ".template" not in path.name
        if path.is_file():
            text = path.read_text()
            assert not {"name", "package", "measure"} & set(Template(text).get_identifiers()), path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_command_prints_where_it_is(tmp_path: Path) -> None:
    assert command("plugins", "new", "moe", cwd=tmp_path).stdout == "hrmctl-moe\n"
    assert (tmp_path / "hrmctl-moe" / "pyproject.toml").is_file()


def test_it_installs_and_passes_its_own_tests(made: Path, tmp_path: Path) -> None:
    """An editable install into an environment that sees this one's packages, without any network."""
    place = tmp_path / "venv"
    venv.create(place, with_pip=False)
    folders = [p for p in site.getsitepackages() if Path(p).is_dir()]
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "outer.pth").write_text("import site; " + "; ".join(f"site.addsitedir({p!r})" for p in folders) + "\n")
    python = str(place / "bin" / "python")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    install = [sys.executable, "-m", "pip", "--python", python, "install", *options, "--editable", "."]
    installed = subprocess.run(install, cwd=made, capture_output=True, text=True, timeout=120)
    assert installed.returncode == 0, installed.stderr
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(tests, cwd=made, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout
    (made / "hrmctl_sparse_moe" / "measure.py").write_text("def share(evidence, params):\n    return {'value': 1.0}\n")
    broken = subprocess.run([*tests, "-k", "measure"], cwd=made, env=environment, capture_output=True, timeout=120)
    assert broken.returncode == 1, "the tests of the plugin cannot fail"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' cannot be the name of a plugin; lower-case letters and digits in words joined by -, at most 40"),
        ("Sparse", "'Sparse' cannot be the name of a plugin"),
        ("a_b", "'a_b' cannot be the name of a plugin"),
        ("1a", "'1a' cannot be the name of a plugin"),
        ("a-", "'a-' cannot be the name of a plugin"),
        ("a--b", "'a--b' cannot be the name of a plugin"),
        ("../a", "'../a' cannot be the name of a plugin"),
        ("a b", "'a b' cannot be the name of a plugin"),
        ("a\n", "cannot be the name of a plugin"),
        ("x" * 41, "cannot be the name of a plugin"),
        ("check", "'check' is a command of hrmctl; choose another name"),
        ("finetune", "there is a plugin or a stage called 'finetune' already; choose another name"),
        ("local", "there is a plugin or a stage called 'local' already; choose another name"),
    ],
)
def test_a_name_that_is_none_or_taken(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        write_plugin(name, tmp_path)
    assert message in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_what_is_there_is_left_alone(made: Path, tmp_path: Path) -> None:
    before = listing(tmp_path)
    with pytest.raises(InputError, match="hrmctl-sparse-moe exists; remove it or choose another name"):
        write_plugin("sparse-moe", tmp_path)
    assert listing(tmp_path) == before
    (tmp_path / "hrmctl-link").symlink_to("nowhere")
    with pytest.raises(InputError, match="hrmctl-link exists"):
        write_plugin("link", tmp_path)
    with pytest.raises(InputError, match="absent is not a folder; make it first"):
        write_plugin("moe", tmp_path / "absent")
    with pytest.raises(InputError, match=r"cannot write /proc/hrmctl-moe: .*; choose another --folder"):
        write_plugin("moe", Path("/proc"))
    assert "hrmctl-moe" not in os.listdir("/proc")
    done = command("plugins", "new", "Bad", cwd=tmp_path, check=2)
    assert len(done.stderr.splitlines()) == 1
