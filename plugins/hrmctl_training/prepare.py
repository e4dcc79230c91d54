"""From data sets to what a training run is fed with, and the evidence of what became of each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from hrmctl import Artifact, Context, InputError, Observation, Output
from hrmctl_training.fit import measured_value
from hrmctl_training.order import Mixed, Order, draws_of, padding_share
from hrmctl_training.packing import PackedExamples
from hrmctl_training.params import TrainingParams
from hrmctl_training.sources import Source, encoded
from hrmctl_training.tokens import Blocks, Preferences, Stored


@dataclass(frozen=True)
class Prepared:
    """What a run is trained and validated on; both are sequences of Preference where `preference`."""

    examples: Sequence[Any]
    validation: Sequence[Any]
    preference: bool
    sources: tuple[Source, ...]
    evidence: tuple[tuple[str, dict[str, Any]], ...]

    def about(self, output: Output) -> dict[str, Artifact | Output]:
        """The subjects of a training run's evidence: the model, and its data as `dataset`.

        Several data sets are dataset-1, dataset-2, … and none of them `dataset`: what was trained on more than a
        contract names is not what the contract is about.
        """
        several = len(self.sources) > 1
        names = (f"dataset-{i + 1}" if several else "dataset" for i in range(len(self.sources)))
        return {"model": output, **dict(zip(names, (source.artifact for source in self.sources), strict=True))}

    def observations(self, output: Output, order: Order, position: int) -> list[Observation]:
        """One measurement/v1 of each figure; `order` and `position` say what the run has drawn by its end."""
        about = self.about(output)
        found = [Observation(name, "measurement/v1", payload, about) for name, payload in self.evidence]
        drawn = self.drawn(order, position)
        for i, source in enumerate(self.sources):
            own: dict[str, Artifact | Output] = {"model": output, "dataset": source.artifact}
            held = None if source.held is None else len(source.held)
            context = {"format": source.counts.format, "chat_template": source.counts.chat, "drawn": drawn[i]}
            context |= {"trained": len(source.rows), "held_out": held or 0}
            rows = {"rows": source.counts.rows}
            rows |= {} if held is None else {"rows_trained": len(source.rows), "rows_held_out": held}
            for name, count in rows.items():
                payload = measured_value(count, "rows", 1, context)
                found.append(Observation(f"{name}{_suffix(i)}", "measurement/v1", payload, own))
            if source.bad_rows:
                report = {"prompt": f"rows of {source.artifact.label} left out", "completion": source.bad_rows}
                found.append(Observation(f"bad_rows{_suffix(i)}", "text/v1", report, own))
        return found

    def drawn(self, order: Order, position: int) -> list[int]:
        """How many examples of each data set the first `position` forward passes were made of."""
        epochs, rest = divmod(position, order.batches_per_epoch)
        mixed = self.examples if isinstance(self.examples, Mixed) else None
        counts = [epochs * n for n in (mixed.draws if mixed else [len(self.examples)])]
        for n in range(position - rest, position):
            for index in order.indices(n):
                counts[mixed.part_of(index) if mixed else 0] += 1
        return counts


def prepare(
    data: Sequence[Artifact],
    validation: Artifact | None,
    tokenizer: PreTrainedTokenizerBase,
    params: TrainingParams,
    ctx: Context,
) -> Prepared:
    """Read, check, split, encode, pack and mix the data sets; the token ids lie in the scratch folder.

    Raises InputError where parameters and data sets do not go together, and the StageErrors of `encoded`.
    """
    if validation is not None and params.validation_split:
        raise InputError("validation rows come from the input or from validation_split, and both were given; give one")
    if params.mix and len(params.mix) != len(data):
        raise InputError(f"mix has {len(params.mix)} weights for {len(data)} data sets; give one for each")
    sources = tuple(encoded(artifact, tokenizer, params, ctx, "training") for artifact in data)
    forms = {source.counts.format for source in sources}
    if "preference" in forms and len(forms) > 1:
        raise InputError(f"preferences are not trained on together with {', '.join(sorted(forms - {'preference'}))}")
    preference = forms == {"preference"}
    if preference and params.packing == "pack":
        raise InputError("preferences are not packed; set packing to none")
    checked = encoded(validation, tokenizer, params, ctx, "validation") if validation is not None else None
    if checked is not None and preference != (checked.counts.format == "preference"):
        raise InputError(f"the validation rows are of the format {checked.counts.format}, those of training are not")
    held = [(source, source.held) for source in sources] if checked is None else [(checked, checked.rows)]
    examples = _mixed([_packed(source, params, ctx.seed) for source in sources], params)
    validated = [_view(source, rows, params) for source, rows in held if rows is not None]
    evidence = _measured(sources, checked, examples, params, ctx)
    return Prepared(examples, _mixed(validated, None) if validated else [], preference, sources, tuple(evidence))


def _mixed(parts: Sequence[Sequence[Any]], params: TrainingParams | None) -> Sequence[Any]:
    if len(parts) == 1:
        return parts[0]
    sizes = [len(part) for part in parts]
    return Mixed(parts, draws_of(sizes, params.mix) if params and params.mix else sizes)


def _packed(source: Source, params: TrainingParams, seed: int) -> Sequence[Any]:
    rows = _view(source, source.rows, params)
    if params.packing == "none" or source.counts.format == "text":
        return rows
    return PackedExamples(rows, params.max_length, seed)


def _view(source: Source, rows: Stored, params: TrainingParams) -> Sequence[Any]:
    if source.counts.format == "preference":
        return Preferences(rows)
    if source.counts.format == "text" and params.packing == "pack":
        return Blocks(rows, params.max_length)
    return rows


def _measured(
    sources: Sequence[Source],
    checked: Source | None,
    examples: Sequence[Any],
    params: TrainingParams,
    ctx: Context,
) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = sum(source.counts.rows for source in sources)
    limit = {"max_length": params.max_length, "too_long": params.too_long}
    too_long = sum(len(source.counts.too_long) for source in sources)
    yield "rows_too_long", measured_value(too_long, "rows", rows, limit)
    yield "rows_truncated", measured_value(sum(s.counts.truncated for s in sources), "rows", rows, limit)
    yield "rows_bad", measured_value(sum(s.counts.bad for s in sources), "rows", rows, {"bad_rows": params.bad_rows})
    yield "row_tokens", _lengths(np.concatenate([source.rows.sizes for source in sources]))
    packing = {"packing": params.packing, "batch": params.batch}
    share = padding_share(examples, params.batch, ctx.seed)
    yield "padding_share", measured_value(share, "share", len(examples), packing)
    keys, wholes = (np.concatenate([getattr(s.rows, name) for s in sources]) for name in ("keys", "wholes"))
    held = [source.held.keys for source in sources if source.held is not None]
    if held:
        both = np.isin(np.concatenate(held), keys)
        yield "split_overlap", measured_value(int(both.sum()), "rows", len(both))
    if checked is not None:
        shared = int(np.isin(wholes, checked.rows.wholes).sum())
        if shared:
            ctx.log.warning("%d training rows are validation rows too: val_loss flatters the model", shared)
        yield "validation_overlap", measured_value(shared, "rows", len(wholes))


def _lengths(sizes: np.ndarray) -> dict[str, Any]:
    """Tokens of the rows as they are in the data, before any was cut or left out."""
    spread = {"min": int(sizes.min()), "p95": float(np.quantile(sizes, 0.95)), "max": int(sizes.max())}
    return measured_value(float(sizes.mean()), "tokens", len(sizes), spread)


def _suffix(index: int) -> str:
    return "" if index == 0 else f"-{index + 1}"
