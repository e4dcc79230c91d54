"""Plugins: one door for all; what is broken is shown and matters only where it is used."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hrmctl.errors import HrmctlError, InputError
from hrmctl.plugins import COMMANDS, Plugin, catalog, stage_version
from hrmctl.recipe import load_recipe, make_plan
from hrmctl.registry import resolve

from .lab import hrmctl, run_lab, write_lab, write_recipe

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution with one plugin module, for this process and for those that it starts."""
    site = tmp_path / "site"
    site.mkdir()
    made: list[str] = []

    def put(code: str, name: str = "acme", distribution: str = "acme-plugin", module: str = "") -> Path:
        module = module or f"acme_{len(made)}_{tmp_path.name}".replace("-", "_")
        made.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        info = site / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[hrmctl]\n{name} = {module}\n")
        importlib.invalidate_caches()
        catalog.cache_clear()
        return site

    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    yield put
    catalog.cache_clear()
    for module in made:
        sys.modules.pop(module, None)


def plugin(name: str, folder: Path | None = None) -> Plugin:
    return next(p for p in catalog(folder).plugins if p.name == name)


GOOD = """
from dataclasses import dataclass
from hrmctl import StageSpec, hookimpl

@dataclass(frozen=True)
class P:
    x: int = 1

@hookimpl
def hrmctl_stages():
    return [StageSpec("{name}", "nothing", P, "json:dumps")]
"""


# --- broken plugins -------------------------------------------------------------------------------

BROKEN = {
    "an error on import": ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
    "a missing module": ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
    "a syntax error": ("def f(:\n    pass", "SyntaxError: invalid syntax"),
    "an exit": ("import sys\nsys.exit(0)", "SystemExit: 0"),
    "an error in a hook": (
        "from hrmctl import hookimpl\n@hookimpl\ndef hrmctl_stages():\n    raise KeyError('gone')",
        "KeyError: 'gone'",
    ),
    "a misspelt hook": (
        "from hrmctl import hookimpl\n@hookimpl\ndef hrmctl_stagse():\n    return []",
        "'hrmctl_stagse' is not a hook; did you mean 'hrmctl_stages'?",
    ),
    "a misspelt function": ("def hrmctl_mesures():\n    return []", "'hrmctl_mesures' is not a hook; did you mean"),
    "an unmarked hook": ("def hrmctl_stages():\n    return []", "decorate it with @hookimpl"),
    "a wrong argument": (
        "from hrmctl import hookimpl\n@hookimpl\ndef hrmctl_run_started(evnt):\n    raise RuntimeError",
        "Argument(s) {'evnt'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "no spec": (
        "from hrmctl import hookimpl\n@hookimpl\ndef hrmctl_stages():\n    return ['train']",
        "TypeError: hrmctl_stages gives a str, not a StageSpec",
    ),
    "a spec of another kind": (
        "from hrmctl import TrackerSpec, hookimpl\n@hookimpl\ndef hrmctl_reporters():\n"
        "    return [TrackerSpec('a', 'b', 'c:d')]",
        "TypeError: hrmctl_reporters gives a TrackerSpec, not a ReporterSpec",
    ),
    "parameters that are no dataclass": (GOOD.format(name="x").replace(", P,", ", dict,"), "are not a dataclass"),
    "one stage twice": (GOOD.format(name="x").replace('json:dumps")]', 'json:dumps")] * 2'), "gives 'x' twice"),
    "a stage named as a command": (GOOD.format(name="check"), "hrmctl has a command of that name"),
    "a stage whose group is a command": (GOOD.format(name="runs.all"), "hrmctl has a command of that name"),
    "a command that hrmctl has": (
        "from hrmctl import CommandSpec, hookimpl\n@hookimpl\ndef hrmctl_commands():\n"
        "    return [CommandSpec('check', 'b', 'c:d')]",
        "'check' cannot be the name of a command",
    ),
    "a name that is none": (GOOD.format(name="Train It"), "cannot be the name of a stage; write it like finetune"),
    "a parameter that is an input": (
        GOOD.format(name="y").replace('dumps")', "dumps\", {'x': InputSpec('model', 'm')})")
        + "\nfrom hrmctl import InputSpec",
        "'x' is both a parameter and an input of 'y'",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_shown_and_the_others_work(install: Install, what: str) -> None:
    code, message = BROKEN[what]
    install(code)
    found = plugin("acme")
    assert found.distribution == "acme-plugin"
    assert found.version == "1.5"
    assert message in found.last_line
    assert not plugin("local").error
    assert "local" in catalog().executors


@pytest.mark.parametrize("what", ["an error on import", "a wrong argument", "an error in a hook"])
def test_a_broken_plugin_hears_no_event(install: Install, tmp_path: Path, what: str) -> None:
    heard = "\n@hookimpl\ndef hrmctl_stage_started(event):\n    raise SystemExit('heard')\n"
    install(f"from hrmctl import hookimpl\n{heard}\n{BROKEN[what][0]}")
    recipe = write_recipe(write_lab(tmp_path), "stages:\n  a: {uses: lab.make}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert run_lab(recipe).exit_code == 0


def test_the_command_shows_the_traceback_and_only_its_use_is_fatal(install: Install, tmp_path: Path) -> None:
    install("x = 1\nraise RuntimeError('no luck')")
    write_lab(tmp_path)
    shown = hrmctl("plugins", "list", cwd=tmp_path)
    assert "acme" in shown.stdout
    assert "BROKEN" in shown.stdout
    assert "acme is broken:\nTraceback (most recent call last):" in shown.stderr
    assert "line 2, in <module>" in shown.stderr
    assert "RuntimeError: no luck" in shown.stderr
    rows = {row["name"]: row for row in json.loads(hrmctl("plugins", "list", "--json", cwd=tmp_path).stdout)}
    assert "RuntimeError: no luck" in rows["acme"]["error"]
    assert rows["local"]["error"] == ""
    write_recipe(tmp_path, "stages:\n  a: {uses: acme.train}\n", name="uses.yaml")
    write_recipe(tmp_path, "stages:\n  a: {uses: lab.make}\n")
    failed = hrmctl("pipeline", "uses.yaml", cwd=tmp_path, check=2)
    assert "uses.yaml:5:13: unknown stage 'acme.train'" in failed.stderr
    assert "plugin acme is broken (RuntimeError: no luck)" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert "acme" not in hrmctl("pipeline", "lab.yaml", "--plan", cwd=tmp_path).stdout


# --- two of one name ------------------------------------------------------------------------------


def test_two_plugins_of_one_name_name_both_distributions(install: Install, tmp_path: Path) -> None:
    install(GOOD.format(name="a"))
    install(GOOD.format(name="b"), distribution="other-plugin")
    message = "two plugins are called 'acme': from (acme|other)-plugin 1.5 and (acme|other)-plugin 1.5; uninstall one"
    with pytest.raises(InputError, match=message):
        catalog()
    failed = hrmctl("plugins", "list", cwd=tmp_path, check=2)
    assert "acme-plugin 1.5" in failed.stderr
    assert "other-plugin 1.5" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_a_command_that_covers_a_stage_names_both(install: Install) -> None:
    install(GOOD.format(name="greet.all"))
    command = (
        "from hrmctl import CommandSpec, hookimpl\n@hookimpl\ndef hrmctl_commands():\n"
        "    return [CommandSpec('greet', 'b', 'c:d')]"
    )
    install(command, name="another", distribution="other-plugin")
    with pytest.raises(InputError, match="'greet' is both a stage and a command of plugins: acme and another"):
        catalog()


def test_two_plugins_that_provide_one_stage_name_both(install: Install) -> None:
    install(GOOD.format(name="same.stage"))
    install(GOOD.format(name="same.stage"), name="another", distribution="other-plugin")
    with pytest.raises(InputError) as caught:
        catalog()
    assert str(caught.value) == (
        "two plugins provide stages 'same.stage': acme (acme-plugin) and another (other-plugin); uninstall one"
    )


def test_two_plugins_of_one_module_are_no_surprise(install: Install) -> None:
    site = install(GOOD.format(name="a"), module="acme_twice")
    (site / "acme_plugin-1.5.dist-info" / "entry_points.txt").write_text("[hrmctl]\nx = acme_twice\ny = acme_twice\n")
    catalog.cache_clear()
    assert plugin("x").error == ""
    assert "already registered under a different name" in plugin("y").error


def test_a_name_may_serve_two_kinds(install: Install) -> None:
    more = (
        "\nfrom hrmctl import ReporterSpec\n@hookimpl\ndef hrmctl_reporters():\n    return [ReporterSpec('x','','a:b')]"
    )
    install(GOOD.format(name="x") + more)
    assert "x" in catalog().stages
    assert "x" in catalog().reporters


def test_commands_are_kept_from_stages() -> None:
    from hrmctl.cli import COMMANDS as real

    assert set(real) <= COMMANDS


# --- a file beside the recipe ---------------------------------------------------------------------


def test_a_plugin_file_serves_the_recipes_beside_it_only(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, text in ((here, "one"), (there, "two")):
        folder.mkdir()
        (folder / "hrmctl_plugins.py").write_text(GOOD.format(name=f"local.{text}"))
    assert "local.one" in catalog(here).stages
    assert "local.one" not in catalog(there).stages
    assert "local.two" in catalog(there).stages
    assert "local.one" not in catalog().stages
    assert plugin("hrmctl_plugins.py", here).distribution == str(here / "hrmctl_plugins.py")
    write_recipe(here, "stages:\n  a: {uses: local.one}\n")
    assert make_plan(load_recipe(here / "lab.yaml"), catalog(here)).stages[0].spec.summary == "nothing"


def test_a_broken_plugin_file_is_shown(tmp_path: Path) -> None:
    (tmp_path / "hrmctl_plugins.py").write_text("import sys\nsys.exit('never')\n")
    assert plugin("hrmctl_plugins.py", tmp_path).last_line == "SystemExit: never"


def test_a_plugin_file_may_not_take_a_name_that_is_installed(tmp_path: Path) -> None:
    (tmp_path / "hrmctl_plugins.py").write_text(
        "from hrmctl import ExecutorSpec, hookimpl\n@hookimpl\ndef hrmctl_executors():\n"
        "    return [ExecutorSpec('local', 'mine', 'a:b')]\n"
    )
    with pytest.raises(InputError, match=r"two plugins provide executors 'local': local \(hrmctl\) and hrmctl_plugins"):
        catalog(tmp_path)


# --- versions -------------------------------------------------------------------------------------


def version(folder: Path) -> str:
    found = catalog(folder)
    return stage_version(found.owner["local.x"], found.stages["local.x"])


def test_the_version_of_a_stage_is_that_of_its_source(tmp_path: Path) -> None:
    seen = []
    for i, text in enumerate(["", "", "# another comment\n"]):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "hrmctl_plugins.py").write_text(GOOD.format(name="local.x") + text)
        seen.append(version(folder))
    assert seen[0] == seen[1] != seen[2]
    assert seen[0].startswith("local+")


def test_packages_that_a_stage_names_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for i, files in enumerate([{"a.py": "1", "b.py": "2"}, {"a.py": "1", "b.py": "3"}, {"a.py": "1", "c.py": "2"}]):
        folder = tmp_path / str(i)
        package = folder / f"library{i}"
        package.mkdir(parents=True)
        for name, text in {"__init__.py": "", **files}.items():
            (package / name).write_text(text)
        monkeypatch.syspath_prepend(folder)
        code = GOOD.format(name="local.x").replace('dumps")', f'dumps", code=("library{i}",))')
        (folder / "hrmctl_plugins.py").write_text(code.replace(f"library{i}", f"library{i}"))
        found = catalog(folder)
        spec = found.stages["local.x"]
        seen.append(stage_version(Plugin("p", "d", "1"), spec))
    assert len(set(seen)) == 3


# --- lazy targets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("json", "'json' is not a target; write 'module:function'"),
        (":dumps", "':dumps' is not a target"),
        ("json:dmups", "json has no function 'dmups'; did you mean 'dumps'?"),
        ("json:__doc__", "json has no function '__doc__'"),
        ("absent_module:f", "cannot import absent_module: No module named 'absent_module'; is its extra installed?"),
    ],
)
def test_a_target_that_leads_nowhere_is_an_expected_error(target: str, message: str) -> None:
    with pytest.raises(HrmctlError, match=message.replace("(", r"\(").replace("?", r"\?")):
        resolve(target)
    assert resolve("json:dumps") is json.dumps
