"""Which token sequences of many short fields occur in a text: equality of the text itself, never of hashes alone."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from hrmctl_data.documents import folded

_WORD = re.compile(r"\w+")
_CODE = re.compile(r"[^\W\d]\w*|\d[\w.]*|[^\w\s]")
_COMMENT = re.compile(r"#[^\n]*")
_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|([nrt]))?")
_FIXED = {*keyword.kwlist, *(name for name in dir(builtins) if name[0] != "_")}
_NAME = "$"


def unescaped(text: str) -> str:
    """A text and its escaped forms (JSON in JSON, notebooks, at any depth) made one: compare both sides by this.

    Escapes of whitespace become whitespace, those of a code point become it, and every other backslash falls away.
    """
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def _unescape(match: re.Match[str]) -> str:
    point, space = match.groups()
    if point:
        return chr(int(point, 16))
    return "" if space is None else "\n" if space == "n" else " "


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores in one case; punctuation falls away (Brown et al. 2020, appendix C)."""
    return _WORD.findall(folded(text))


def code_tokens(text: str) -> list[str]:
    """Names, numbers and single marks, without comments and whitespace; case is kept."""
    return _CODE.findall(_COMMENT.sub("", text))


def is_name(token: str) -> bool:
    """Whether a code token is a name that an author chose: neither a keyword nor a builtin."""
    return (token[0].isalpha() or token[0] == "_") and token not in _FIXED


@dataclass(frozen=True, slots=True)
class Match:
    """Field number `field` has `share` of its distinct n-grams in the text; `excerpt` is the first found there."""

    field: int
    share: float
    excerpt: str


class Table:
    """The n-grams of many fields, to be looked for in texts.

    A field of fewer than `n` tokens is one gram of its whole length, so that it cannot escape. Each position of a
    text is looked up by its first `head` tokens; the rest of a gram is then compared as text. With `renamed`, names
    are looked up as one placeholder and then compared: the two sequences must become equal by one
    renaming, the same at every place and in both directions.
    """

    def __init__(self, fields: Sequence[Sequence[str]], n: int, head: int, renamed: bool = False):
        self._renamed = renamed
        self._grams: list[tuple[str, tuple[str, ...]]] = []
        self._owners: list[list[int]] = []
        self._heads: dict[int, dict[str, list[int]]] = {}
        self._sizes: list[int] = []
        known: dict[tuple[str, ...], int] = {}
        for field, tokens in enumerate(fields):
            length = min(n, len(tokens))
            grams = {tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)} if length else set()
            self._sizes.append(len(grams))
            for gram in sorted(grams):
                if gram not in known:
                    known[gram] = self._add(gram, min(head, length))
                self._owners[known[gram]].append(field)

    def _add(self, gram: tuple[str, ...], head: int) -> int:
        shown = self._shown(gram)
        self._grams.append((_joined(shown), gram))
        self._owners.append([])
        self._heads.setdefault(head, {}).setdefault(_joined(shown[:head]), []).append(len(self._grams) - 1)
        return len(self._grams) - 1

    def _shown(self, tokens: Sequence[str]) -> Sequence[str]:
        return [_NAME if is_name(token) else token for token in tokens] if self._renamed else tokens

    def find(self, tokens: Sequence[str]) -> list[Match]:
        """Every field of which at least one n-gram occurs in `tokens`, in the order of the fields."""
        shown = self._shown(tokens)
        text = _joined(shown)
        starts = [0, *accumulate(len(token) + 1 for token in shown)]
        places: dict[int, int] = {}
        for length, heads in self._heads.items():
            for place, (start, end) in enumerate(zip(starts, starts[length:], strict=False)):
                for gram in heads.get(text[start:end], ()):
                    if gram not in places and self._is_at(gram, text, start, tokens, place):
                        places[gram] = place
        return self._matches(places, tokens)

    def _is_at(self, gram: int, text: str, start: int, tokens: Sequence[str], place: int) -> bool:
        shown, own = self._grams[gram]
        return text.startswith(shown, start) and (not self._renamed or same_but_for_names(own, tokens, place))

    def _matches(self, places: dict[int, int], tokens: Sequence[str]) -> list[Match]:
        found: dict[int, list[int]] = {}
        for gram in places:
            for field in self._owners[gram]:
                found.setdefault(field, []).append(gram)
        result = []
        for field, grams in sorted(found.items()):
            first = min(grams, key=lambda gram: (places[gram], gram))
            excerpt = tokens[places[first] : places[first] + len(self._grams[first][1])]
            result.append(Match(field, len(grams) / self._sizes[field], " ".join(excerpt)))
        return result


def _joined(tokens: Sequence[str]) -> str:
    return " ".join(tokens) + " "


def same_but_for_names(left: Sequence[str], right: Sequence[str], place: int) -> bool:
    """Whether one renaming of names, one to one, makes `left` equal to the tokens of `right` from `place` on."""
    forth: dict[str, str] = {}
    back: dict[str, str] = {}
    for offset, mine in enumerate(left):
        other = right[place + offset]
        if is_name(mine) and (forth.setdefault(mine, other) != other or back.setdefault(other, mine) != mine):
            return False
    return True
