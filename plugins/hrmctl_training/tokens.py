"""Token ids on disk: written once in batches, read by position, so that no data set is ever held in memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from hrmctl_models.journal import Journal
from hrmctl_models.tokenizers import encode_pairs
from transformers import PreTrainedTokenizerBase

from hrmctl import StageError
from hrmctl_training.examples import Example, Preference
from hrmctl_training.formats import Pairs, Row, digest_of

_IDS = "ids.bin"
_INDEX = "index.npz"
_JOURNAL = "chunks.jsonl"
_COLUMNS = ("ends", "lines", "starts", "gaps", "keys", "wholes", "sizes")
_CHUNK = 1024
_FEW_IDS = 1 << 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What becomes of a row: `longest` tokens at most (None for any), learned from its answers alone or whole."""

    longest: int | None
    truncate: bool
    answers_only: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """The token ids of one text; the loss is taken over `ids[start:]` without the ranges `gaps`."""

    ids: list[int]
    start: int
    gaps: tuple[tuple[int, int], ...]

    def cut(self, length: int) -> Encoded | None:
        """Its first `length` tokens; None where nothing is then left to learn."""
        gaps = tuple((first, min(last, length)) for first, last in self.gaps if first < length)
        learned = length - self.start - sum(last - first for first, last in gaps)
        return Encoded(self.ids[:length], self.start, gaps) if learned > 0 else None


def encode(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, answers_only: bool) -> list[list[Encoded]]:
    """The texts of each row, one, or two of a preference, with the end token.

    Raises StageError where the tokenizer has no end token.
    """
    if tokenizer.eos_token_id is None:
        raise StageError("the model's tokenizer has no end token, so it could never learn to stop; set eos_token in it")
    answers = [pairs for row in rows for pairs in ((row.pairs, row.rejected) if row.rejected else (row.pairs,))]
    pieces = _pieces(answers, tokenizer)
    encoded: list[list[Encoded]] = []
    for row in rows:
        end = () if row.ended else (tokenizer.eos_token_id,)
        # A preference is about answers, never about prompts.
        only, count = (True, 2) if row.rejected else (answers_only, 1)
        encoded.append([_joined(next(pieces), end, only) for _ in range(count)])
    return encoded


def _pieces(answers: Sequence[Pairs], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[tuple[list[int], ...]]]:
    """Prompts and answers of each text as ids. A begin token, if the tokenizer adds one, opens the first prompt."""
    first = [pairs[0] for pairs in answers]
    later = [pair for pairs in answers for pair in pairs[1:]]
    opening = zip(*encode_pairs(tokenizer, [p for p, _ in first], [c for _, c in first]), strict=True)
    following = zip(*encode_pairs(tokenizer, [p for p, _ in later], [c for _, c in later], special=False), strict=True)
    for pairs in answers:
        yield [next(opening), *(next(following) for _ in pairs[1:])]


def _joined(pieces: Sequence[tuple[list[int], ...]], end: tuple[int, ...], answers_only: bool) -> Encoded:
    ids: list[int] = []
    prompts: list[tuple[int, int]] = []
    for head, tail in pieces:
        prompts.append((len(ids), len(ids) + len(head)))
        ids += [*head, *tail]
    ids += end
    # The first token has nothing before it to be predicted from.
    return Encoded(ids, max(1, prompts[0][1]), tuple(prompts[1:])) if answers_only else Encoded(ids, 1, ())


class Writer:
    """Fills one store: rows are added, and `close` makes of them what `Stored` reads.

    A journal beside the ids keeps what is known of every chunk of rows, so that a later writer, given the same rows
    from the first on, encodes only those that an earlier one did not.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, limits: Limits) -> None:
        self.tokenizer = tokenizer
        self.limits = limits
        self.too_long: list[int] = []
        self.truncated = 0
        self._folder = folder
        self._type = np.uint16 if len(tokenizer) <= _FEW_IDS else np.uint32
        self._waiting: list[Row] = []
        # Ends of the texts, their lines, where the loss begins, and the gaps in it as (text, first, last).
        self._ends, self._lines, self._starts, self._gaps = array("q"), array("q"), array("q"), array("q")
        # Of each row what tells duplicates, by prompt alone and by the whole; of every row its length before any cut.
        self._keys, self._wholes, self._sizes = array("Q"), array("Q"), array("q")
        folder.mkdir(parents=True, exist_ok=True)
        self._stream = (folder / _IDS).open("ab")
        self._journal = Journal(folder / _JOURNAL)
        # Rows that an earlier writer encoded and this one passes over.
        self._known = self._taken_over()

    def _taken_over(self) -> int:
        """Take over the chunks of an earlier writer, if all their ids are there; the number of their rows."""
        ends = [end for chunk in self._journal.rows for end in chunk["ends"][-1:]]
        width = np.dtype(self._type).itemsize
        if ends and ends[-1] * width > os.fstat(self._stream.fileno()).st_size:
            self._journal.path.unlink()
            self._journal = Journal(self._journal.path)
        for chunk in self._journal.rows:
            for name in _COLUMNS:
                getattr(self, f"_{name}").extend(chunk[name])
            self.too_long += chunk["too_long"]
            self.truncated += chunk["truncated"]
        self._stream.truncate(self.tokens * width)
        return len(self._sizes)

    @property
    def tokens(self) -> int:
        """All tokens written so far."""
        return self._ends[-1] if self._ends else 0

    def add(self, row: Row) -> None:
        """Take one row."""
        if self._known:
            self._known -= 1
            return
        self._waiting.append(row)
        if len(self._waiting) >= _CHUNK:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._stream.close()
        arrays: dict[str, Any] = {name: np.asarray(getattr(self, f"_{name}")) for name in _COLUMNS}
        np.savez(self._folder / _INDEX, type=np.array(np.dtype(self._type).name), **arrays)
        self._journal.close()
        self._journal.path.unlink()

    def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        before = {name: len(getattr(self, f"_{name}")) for name in _COLUMNS}
        too_long, truncated = len(self.too_long), self.truncated
        for row, texts in zip(rows, encode(rows, self.tokenizer, self.limits.answers_only), strict=True):
            self._sizes.append(max(len(text.ids) for text in texts))
            kept = [self._fitted(text) for text in texts]
            if any(text is None for text in kept):
                self.too_long.append(row.line)
                continue
            self.truncated += any(len(a.ids) < len(b.ids) for a, b in zip(kept, texts, strict=True) if a is not None)
            for text in kept:
                if text is not None:
                    self._write(row, text)
            self._keys.append(digest_of(row.key))
            self._wholes.append(digest_of("\0".join(row.texts)))
        # The ids first: a chunk that the journal tells of is there.
        self._stream.flush()
        os.fsync(self._stream.fileno())
        columns = {name: getattr(self, f"_{name}")[start:].tolist() for name, start in before.items()}
        cut = {"too_long": self.too_long[too_long:], "truncated": self.truncated - truncated}
        self._journal.append(columns | cut)

    def _fitted(self, text: Encoded) -> Encoded | None:
        longest = self.limits.longest
        if longest is None or len(text.ids) <= longest:
            return text
        return text.cut(longest) if self.limits.truncate else None

    def _write(self, row: Row, text: Encoded) -> None:
        for first, last in text.gaps:
            self._gaps.extend((len(self._ends), first, last))
        self._stream.write(np.asarray(text.ids, self._type).tobytes())
        self._ends.append(self.tokens + len(text.ids))
        self._lines.append(row.line)
        self._starts.append(text.start)


class Stored(Sequence[Example]):
    """The examples of a store. Reading one costs one read of its ids; the index (56 bytes a row) is in memory.

    `keys` and `wholes` are digests of each row's prompt and whole text; `sizes` are the lengths of all rows that were
    added, before any was cut or left out. Raises StageError where the store is damaged, when it is opened and later.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _IDS
        try:
            with np.load(folder / _INDEX, allow_pickle=False) as index:
                self._type = np.dtype(str(index["type"]))
                self.ends, self.lines, self.starts = index["ends"], index["lines"], index["starts"]
                self.keys, self.wholes, self.sizes = index["keys"], index["wholes"], index["sizes"]
                gaps = index["gaps"].reshape(-1, 3)
            self._stream = self.path.open("rb", buffering=0)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise self._damaged(str(error)) from error
        self._gaps, self._gaps_of = gaps[:, 1:], gaps[:, 0]
        self.lengths = np.diff(self.ends, prepend=0)
        size = os.fstat(self._stream.fileno()).st_size
        if size != self.tokens * self._type.itemsize:
            raise self._damaged(f"it has {size} bytes instead of {self.tokens * self._type.itemsize}")

    @property
    def tokens(self) -> int:
        """All tokens of the store."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        end = int(self.ends[index])
        ids = self.read(end - int(self.lengths[index]), end)
        first, last = np.searchsorted(self._gaps_of, (index, index + 1))
        gaps = tuple((a, b) for a, b in self._gaps[first:last].tolist())
        return Example(int(self.lines[index]), ids, int(self.starts[index]), gaps)

    def read(self, first: int, last: int) -> list[int]:
        """The ids number `first` to before `last` of the store. Raises StageError where they are no longer there."""
        width = self._type.itemsize
        try:
            raw = os.pread(self._stream.fileno(), (last - first) * width, first * width)
        except OSError as error:
            raise self._damaged(str(error)) from error
        if len(raw) != (last - first) * width:
            raise self._damaged(f"it ends before token {last}")
        ids: list[int] = np.frombuffer(raw, self._type).tolist()
        return ids

    def _damaged(self, why: str) -> StageError:
        return StageError(f"the encoded training data {self.path} cannot be read: {why}; run the stage again")


class Preferences(Sequence[Preference]):
    """A store of preferences, whose texts come in twos."""

    def __init__(self, texts: Stored) -> None:
        self.texts = texts
        self.lengths = texts.lengths.reshape(-1, 2).sum(1)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Preference:  # type: ignore[override]
        chosen, rejected = self.texts[2 * index], self.texts[2 * index + 1]
        return Preference(chosen.line, chosen, rejected)


class Blocks(Sequence[Example]):
    """The texts of a store one behind the other, cut to blocks of `length` tokens, the last one shorter.

    Every token but a block's first is learned. A block has the line of the text that it begins in.
    """

    def __init__(self, texts: Stored, length: int) -> None:
        self.texts = texts
        self.length = length
        # A block of one token would have nothing to predict.
        count = max(1, -(-(texts.tokens - 1) // length)) if texts.tokens > 1 else 0
        self.lengths = np.full(count, length)
        if count:
            self.lengths[-1] = min(length, texts.tokens - (count - 1) * length)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = index * self.length
        line = int(self.texts.lines[np.searchsorted(self.texts.ends, first, side="right")])
        return Example(line, self.texts.read(first, first + int(self.lengths[index])), 1)
