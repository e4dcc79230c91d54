"""One data set, encoded into the scratch folder: what was read, held out, left out and cut."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hrmctl_models.loading import put_folder
from transformers import PreTrainedTokenizerBase

from hrmctl import Artifact, Context, HrmctlError, Problem, StageError
from hrmctl_training.formats import Chat, Row, digest_of
from hrmctl_training.params import TrainingParams
from hrmctl_training.rows import Reader
from hrmctl_training.tokens import Limits, Stored, Writer

_REPORT = "bad-rows.jsonl"
_INFO = "info.json"
_SHOWN = 10
_MEND = "mend them, or set bad_rows to skip"


@dataclass(frozen=True)
class Counts:
    """What became of the rows of one data set; `too_long` are lines."""

    format: str
    chat: str
    rows: int
    bad: int
    truncated: int
    too_long: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """One data set as encoded: its rows for training and those held out for validation."""

    artifact: Artifact
    counts: Counts
    rows: Stored
    held: Stored | None
    bad_rows: str


def training_texts(data: Sequence[Artifact], params: TrainingParams) -> Iterator[str]:
    """Every text of the rows that are trained on, for a tokenizer to be made of them.

    Apart, as they are encoded: generation sees the prompt alone. Raises StageError for rows that are not usable.
    """
    for artifact in data:
        reader = Reader(artifact.path, params.format, Chat())
        for row in reader:
            if not is_held(row, params.validation_split):
                yield from row.texts
        if params.bad_rows == "stop":
            reader.faults.refuse("bad rows", _MEND)


def encoded(
    artifact: Artifact, tokenizer: PreTrainedTokenizerBase, params: TrainingParams, ctx: Context, what: str
) -> Source:
    """The data set as token ids in the scratch folder; `what` it is for, training or validation.

    What a killed or cancelled attempt has encoded is used again, and the rest is encoded. Raises StageError
    for bad rows (unless `bad_rows` is skip), for rows that are too long (where `too_long` is stop), where nothing is
    left to learn from, and where the disk is full.
    """
    split = params.validation_split if what == "training" else 0.0
    folder = ctx.scratch / f"tokens-{_digest(artifact, tokenizer, params, split)[:16]}"
    try:
        source = _opened(artifact, folder)
        ctx.log.info("%s: using the rows that an earlier attempt encoded", artifact.label)
    except (OSError, ValueError, TypeError, StageError):
        _encode_rest(artifact, tokenizer, params, split, folder, ctx)
        source = _opened(artifact, folder)
    _tell(source, params, ctx, what)
    return source


def _opened(artifact: Artifact, folder: Path) -> Source:
    found = json.loads((folder / _INFO).read_text("utf-8"))
    counts = Counts(**found | {"too_long": tuple(found["too_long"])})
    held = Stored(folder / "held") if (folder / "held").is_dir() else None
    report = folder / _REPORT
    bad_rows = report.read_text("utf-8") if report.is_file() else ""
    return Source(artifact, counts, Stored(folder / "rows"), held, bad_rows)


def _encode_rest(
    artifact: Artifact,
    tokenizer: PreTrainedTokenizerBase,
    params: TrainingParams,
    split: float,
    folder: Path,
    ctx: Context,
) -> None:
    draft = folder.with_name(f".{folder.name}.draft")
    try:
        draft.mkdir(parents=True, exist_ok=True)
        (draft / _REPORT).unlink(missing_ok=True)
        _encode(artifact, tokenizer, params, split, draft, ctx)
        put_folder(draft, folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise StageError(f"the token ids of {artifact.label} cannot be written to {draft}: {error.strerror}") from error
    except HrmctlError:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _encode(
    artifact: Artifact,
    tokenizer: PreTrainedTokenizerBase,
    params: TrainingParams,
    split: float,
    draft: Path,
    ctx: Context,
) -> None:
    chat = Chat(tokenizer, params.chat_template)
    reader = Reader(artifact.path, params.format, chat, draft / _REPORT if params.bad_rows == "skip" else None)
    writers: dict[str, Writer] = {}
    for row in reader:
        ctx.check()
        if reader.faults.count and params.bad_rows == "stop":
            continue
        if not writers:
            writers = {name: Writer(draft / name, tokenizer, _limits(reader, params)) for name in _parts(split)}
        writers["held" if is_held(row, split) else "rows"].add(row)
    if params.bad_rows == "stop" or not writers:
        reader.faults.refuse("bad rows", _MEND)
    for writer in writers.values():
        writer.close()
    too_long = [line for writer in writers.values() for line in writer.too_long]
    truncated = sum(writer.truncated for writer in writers.values())
    counts = Counts(reader.format, chat.name, reader.rows, reader.faults.count, truncated, tuple(sorted(too_long)))
    (draft / _INFO).write_text(json.dumps(asdict(counts)), "utf-8")


def _parts(split: float) -> tuple[str, ...]:
    return ("rows", "held") if split else ("rows",)


def _limits(reader: Reader, params: TrainingParams) -> Limits:
    """Plain text that is cut to blocks is never too long."""
    whole = reader.format == "text" and params.packing == "pack"
    return Limits(None if whole else params.max_length, params.too_long == "truncate", params.loss_on == "completion")


def is_held(row: Row, split: float) -> bool:
    """By the prompt alone: rows with one prompt fall on one side, in every data set and with every seed."""
    return split > 0 and digest_of(f"held/{row.key}") < split * 2**64


def _digest(artifact: Artifact, tokenizer: PreTrainedTokenizerBase, params: TrainingParams, split: float) -> str:
    """What the token ids depend on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    parts = [
        *(artifact.digest, vocabulary, tokenizer.chat_template, tokenizer.eos_token, params.format, split),
        *(params.chat_template, params.bad_rows, params.too_long, params.max_length, params.loss_on, params.packing),
    ]
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()


def _tell(source: Source, params: TrainingParams, ctx: Context, what: str) -> None:
    counts, label = source.counts, source.artifact.label
    ctx.log.info("%s: %d %s rows, format %s", label, counts.rows, what, counts.format)
    if counts.bad:
        ctx.log.warning("%d of %d %s rows of %s are bad and left out", counts.bad, counts.rows, what, label)
    if counts.too_long and params.too_long == "stop":
        path = str(source.artifact.path)
        first = (Problem(f"longer than {params.max_length} tokens", path, line, 1) for line in counts.too_long[:_SHOWN])
        remedy = "raise max_length, or set too_long to drop or truncate"
        raise StageError(*first, Problem(f"{len(counts.too_long)} rows are too long in all", path, remedy=remedy))
    usable = {"rows": source.rows, "held": source.held}
    for name, rows in usable.items():
        if rows is not None and not len(rows):
            raise _nothing(name, source, params, what)
    if counts.too_long:
        ctx.log.warning(
            "%d of %d %s rows are longer than %d tokens and left out (first at line %d)",
            *(len(counts.too_long), counts.rows, what, params.max_length, counts.too_long[0]),
        )
    if counts.truncated:
        ctx.log.warning("%d of %d %s rows are cut to %d tokens", counts.truncated, counts.rows, what, params.max_length)


def _nothing(name: str, source: Source, params: TrainingParams, what: str) -> StageError:
    if source.counts.too_long and len(source.counts.too_long) + source.counts.bad == source.counts.rows:
        return StageError(f"every {what} row is longer than {params.max_length} tokens; raise max_length")
    side = "validation" if name == "held" else "training"
    return StageError(
        f"validation_split {params.validation_split} leaves no row of {source.artifact.label} for {side}; "
        "change it, or give a validation input"
    )
