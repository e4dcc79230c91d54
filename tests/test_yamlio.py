"""YAML with positions: agrees with a reference parser, and refuses hostile text in one line that names the place."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrmctl.errors import InputError, Problem, one_line
from hrmctl.yamlio import MAX_BYTES, MAX_DEPTH, MAX_PROBLEMS, MAX_VALUES, Node, load, parse, suggest

# What YAML 1.1 (the reference) and YAML 1.2's core schema read alike: `0E0` is text in the one, a number in the other.
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12).filter(
    lambda word: word[:1] not in "+-.0123456789" or not word
)
SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | WORDS
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)
BITS = ["a", "- ", ": ", "? ", "\n", "  ", "\t", "[", "]", "{", "}", ",", "&x ", "*x", "!t ", "'", '"', "|", ">", "#"]
FRAGMENTS = st.lists(st.sampled_from([*BITS, "---\n", "...\n", "%YAML 1.1\n", "<<: ", "\\", "0x", ".inf", "é", "\0"]))


def faults(text: str) -> list[Problem]:
    with pytest.raises(InputError) as caught:
        parse(text, "f.yaml")
    return list(caught.value.problems)


def one(text: str) -> str:
    found = faults(text)
    assert len(found) == 1
    return str(found[0])


@given(TREES, st.booleans())
@settings(deadline=None)
def test_agrees_with_the_reference_on_what_it_writes(tree: Any, flow: bool) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True)
    assert parse(text).plain() == yaml.safe_load(text) == tree


@given(FRAGMENTS.map("".join) | st.text(max_size=60))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_hostile_text_raises_nothing_but_input_errors_with_a_place(text: str) -> None:
    try:
        node = parse(text, "f.yaml")
    except InputError as error:
        for problem in error.problems:
            assert problem.file == "f.yaml"
            assert problem.line >= 1
            assert problem.column >= 1
            assert "\n" not in str(problem)
    else:
        assert isinstance(node, Node)
        node.plain()


@given(TREES)
@settings(deadline=None)
def test_every_value_knows_its_place(tree: Any) -> None:
    text = yaml.safe_dump({"key": tree}, default_flow_style=False, allow_unicode=True)
    lines = text.split("\n")
    for node in _all(parse(text, "f.yaml")):
        assert node.file == "f.yaml"
        assert 1 <= node.line <= len(lines)
        for name, (line, column) in node.keys.items():
            assert (line, column) <= (node.value[name].line, node.value[name].column)


def _all(node: Node) -> list[Node]:
    inside = node.value.values() if isinstance(node.value, dict) else node.value
    children = inside if isinstance(node.value, (dict, list)) else []
    return [node, *(found for child in children for found in _all(child))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("No", "No"),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("6e-3", 0.006),
        ("1.", 1.0),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-01-02", "2026-01-02"),
        ("~", None),
        ("'12'", "12"),
        ('"\\x41"', "A"),
        ("-.INF", -math.inf),
        ("1e999", math.inf),
        ("9" * 5000, "9" * 5000),
        ("=", "="),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = parse(f"k: {text}").plain()["k"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_read_as_nan() -> None:
    assert math.isnan(parse("[.nan]").plain()[0])


def test_keys_and_values_name_line_and_column() -> None:
    root = parse("a: 1\nb:\n  - x\n  - {c: 2, d: 3}\n", "f.yaml")
    inner = root.value["b"].value[1]
    assert str(inner.value["d"].problem("wrong", "mend it")) == "f.yaml:4:15: wrong; mend it"
    assert str(inner.key_problem("d", "unknown")) == "f.yaml:4:12: unknown"
    assert str(inner.key_problem("absent", "missing")) == "f.yaml:4:5: missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1\n", "f.yaml:2:1: a tab in the indentation; indent with spaces"),
        ("a:\n  b: 1\n\tc: 2\n", "f.yaml:3:1: a tab in the indentation; indent with spaces"),
        ("- a\n-\tb: 1\n\tc: 2\n", "f.yaml:2:2: a tab where YAML allows none; use spaces"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: duplicate key 'a'; first given in line 1"),
        ("x: {a: 1, a: 2}\n", "f.yaml:1:11: duplicate key 'a'; first given in line 1"),
        ("'a': 1\n\"a\": 2\n", "f.yaml:2:1: duplicate key 'a'; first given in line 1"),
        ("a: &n 1\n", "f.yaml:1:4: anchors are not part of hrmctl's YAML; write the value out, or use vars"),
        ("a: *n\n", "f.yaml:1:4: aliases are not part of hrmctl's YAML; write the value out, or use vars"),
        ("a: !!int '3'\n", "f.yaml:1:4: tags are not part of hrmctl's YAML (tag:yaml.org,2002:int); remove it"),
        (
            "a: !python/object/apply:os.system [x]\n",
            "f.yaml:1:4: tags are not part of hrmctl's YAML (!python/object/apply:os.system); remove it",
        ),
        ("1: a\n", "f.yaml:1:1: a key must be text, not an integer; put it in quotes"),
        ("? [a]\n: b\n", "f.yaml:1:3: a key must be text, not a list; put it in quotes"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document in the file; one document a file"),
        ("", "f.yaml:1:1: the file is empty"),
        ("# only words\n", "f.yaml:1:1: the file is empty"),
        ("a: [1,\n", "f.yaml:2:1: not YAML: did not find expected node content"),
        (
            "a: \x07b\n",
            "f.yaml:1:4: the character U+0007 is not allowed; remove it, or write it as an escape in double quotes",
        ),
        (
            "ok: 1\na: \udcffb\n",
            "f.yaml:2:4: the character U+DCFF is not allowed; remove it, or write it as an escape in double quotes",
        ),
    ],
)
def test_each_fault_names_place_and_remedy(text: str, message: str) -> None:
    assert one(text) == message


def test_all_faults_are_told_at_once() -> None:
    found = faults("a: 1\na: 2\nb: &x 1\nc: !t 2\n")
    assert [(p.line, p.column) for p in found] == [(2, 1), (3, 4), (4, 4)]


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? "])
def test_ten_thousand_levels_are_refused(piece: str) -> None:
    begun = time.monotonic()
    assert one(piece * 10_000).endswith(f"nested deeper than {MAX_DEPTH} levels")
    assert time.monotonic() - begun < 5


def test_the_deepest_allowed_document_is_read() -> None:
    node = parse("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    depth = 0
    while node.value:
        node, depth = node.value[0], depth + 1
    assert depth == MAX_DEPTH - 1
    assert "deeper" in one("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_faults_and_values_are_bounded() -> None:
    assert len(faults("a: 1\n" * 5000)) == MAX_PROBLEMS
    found = one("[" + "a," * (MAX_VALUES + 1) + "]")
    assert found.endswith(f"more than {MAX_VALUES:,} values; split it")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as stream:
        stream.truncate(100 * 1000 * 1000)
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"huge\.yaml: 100,000,000 bytes; the limit is 1,048,576; split it"):
        load(path)
    assert time.monotonic() - begun < 1
    path.write_bytes(b"a" * MAX_BYTES)
    assert load(path).value == "a" * MAX_BYTES


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(InputError, match="/dev/zero: 1,048,577 bytes"):
        load(Path("/dev/zero"))


def test_a_file_that_is_not_utf_8_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: x\ntitle: Müll\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml:2:9: not UTF-8 \(byte 0xfc\); save it as UTF-8"):
        load(path)
    path.write_bytes("name: x".encode("utf-16"))
    with pytest.raises(InputError, match=r"latin\.yaml:1:1: not UTF-8"):
        load(path)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load(path).plain() == {"a": 1}


@pytest.mark.parametrize(("name", "words"), [("absent.yaml", "No such file"), ("", "Is a directory"), ("a\0b", "null")])
def test_what_cannot_be_read_is_an_input_error(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(tmp_path / name)


@given(TREES.filter(lambda tree: tree is not None))
@settings(deadline=None)
def test_a_node_over_plain_data_gives_it_back(tree: Any) -> None:
    assert Node.of(tree).plain() == tree


def test_suggestions_name_the_nearest_or_the_few() -> None:
    assert suggest("stpes", ["steps", "seed"]) == "did you mean 'steps'?"
    assert suggest("zzz", ["b", "a"]) == "known: a, b"
    assert suggest("zzz", [f"name{i}" for i in range(20)]) == ""
    assert suggest("zzz", []) == ""


@given(st.text())
@settings(deadline=None)
def test_a_message_stays_on_one_line_and_short(text: str) -> None:
    shown = one_line(text * 50, limit=100)
    assert shown.isprintable()
    assert len(shown) <= 101 * 10


def test_hostile_names_do_not_reach_the_terminal() -> None:
    text = str(Problem("unknown key '\x1b[2Jx\ny'", "f.yaml", 1, 2))
    assert text == "f.yaml:1:2: unknown key '\\x1b[2Jx\\ny'"
