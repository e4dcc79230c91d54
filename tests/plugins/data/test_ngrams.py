"""Tables of n-grams against the plainest search there is."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hrmctl_data.ngrams import Match, Table, code_tokens, is_name, same_but_for_names, unescaped, words
from hypothesis import given
from hypothesis import strategies as st

LETTERS = st.lists(st.sampled_from("ab"), max_size=12)


def grams(tokens: Sequence[str], n: int) -> set[tuple[str, ...]]:
    length = min(n, len(tokens))
    return {tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)} if length else set()


def plainly(field: Sequence[str], n: int, text: Sequence[str]) -> float:
    own = grams(field, n)
    return sum(gram in grams(text, len(gram)) for gram in own if len(gram) <= len(text)) / len(own) if own else 0.0


@given(st.lists(LETTERS, max_size=4), LETTERS, st.integers(1, 6), st.integers(1, 6))
def test_shares_are_those_of_a_plain_search(fields: list[list[str]], text: list[str], n: int, head: int) -> None:
    found = {match.field: match.share for match in Table(fields, n, min(head, n)).find(text)}
    expected = {i: share for i, field in enumerate(fields) if (share := plainly(field, n, text))}
    assert found == pytest.approx(expected)


def test_tokens_do_not_run_together() -> None:
    table = Table([["ab", "c"], ["a", "bc"]], 2, 1)
    assert [match.field for match in table.find(["a", "bc"])] == [1]
    assert table.find(["abc"]) == []
    assert table.find(["xa", "bc"]) == []
    assert table.find(["a", "bcx"]) == []


def test_the_excerpt_is_the_first_place_in_the_text() -> None:
    text = words("So: write a function TO sort it, then write more")
    assert Table([words("then write more"), words("a function to sort")], 3, 2).find(text) == [
        Match(0, 1.0, "then write more"),
        Match(1, 1.0, "a function to"),
    ]


@given(st.permutations(["x", "y", "total", "items"]))
def test_any_renaming_is_seen_through(names: list[str]) -> None:
    source = "def {0}({1}):\n    {2} = 0\n    for {3} in {1}:\n        {2} += {3}\n    return {2}\n"
    table = Table([code_tokens(source.format("sum_all", "values", "result", "value"))], 8, 4, renamed=True)
    assert table.find(code_tokens(source.format(*names)))[0].share == 1.0


def test_two_names_never_stand_for_one_nor_one_for_two() -> None:
    table = Table([code_tokens("a = b + c * a")], 7, 3, renamed=True)
    assert table.find(code_tokens("p = q + r * p"))
    assert not table.find(code_tokens("p = q + r * q"))
    assert not table.find(code_tokens("p = q + r * s"))
    assert not table.find(code_tokens("p = q + q * p"))
    assert not table.find(code_tokens("p = q - r * p"))


def test_keywords_and_builtins_are_no_names() -> None:
    assert [token for token in code_tokens("for i in range(len(xs)): return _y1") if is_name(token)] == [
        "i",
        "xs",
        "_y1",
    ]
    assert not same_but_for_names(["max", "(", "x", ")"], ["y", "(", "x", ")"], 0) or not is_name("max")
    assert not Table([code_tokens("max(x, 1)")], 6, 3, renamed=True).find(code_tokens("min(x, 1)"))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Find the SUM, please!", ["find", "the", "sum", "please"]),
        ("ﬁnd　ｔｈｅ", ["find", "the"]),
        ("su\u200bm so\u00adft", ["sum", "soft"]),
        ("min_cost(3, 4.5)", ["min_cost", "3", "4", "5"]),
        ("Straße\n\tSTRASSE", ["strasse", "strasse"]),
        ("", []),
    ],
)
def test_words_are_the_same_in_every_dress(text: str, tokens: list[str]) -> None:
    assert words(text) == tokens


def test_comments_and_space_are_no_code() -> None:
    assert code_tokens("x=1.5 # why\n\n  y  =  X") == ["x", "=", "1.5", "y", "=", "X"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a\\nb\\tc\\r\\nd", "a\nb c \nd"),
        ("a\\\\nb", "a\nb"),
        ('say \\"a\\" \\\\"b', 'say "a" "b'),
        ("caf\\u00e9 \\\\u0027x", "caf\u00e9 'x"),
        (r"\d+\/\\s", "d+/s"),
        ("no escape\n", "no escape\n"),
    ],
)
def test_escapes_are_undone_however_deep(text: str, plain: str) -> None:
    assert unescaped(text) == plain


@given(st.text("ab\n\t\"'\\/n #\u00e9"))
def test_a_text_and_its_escaped_form_are_one(text: str) -> None:
    inner = json.dumps(text)[1:-1]
    assert unescaped(inner).split() == unescaped(text).split()
