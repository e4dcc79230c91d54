"""Which files of a model folder are wanted, and whether its safetensors files are well formed.

A safetensors file is 8 bytes of header length (little endian), a JSON header, and the payload that
the header's offsets must cover exactly, without gap or overlap. Everything here works on headers
alone and loads no tensor.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hrmctl import HrmctlError, StageError
from hrmctl.jsonio import loads

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SAFE_NAMES = frozenset(
    {
        "LICENSE",
        "LICENSE.md",
        "LICENSE.txt",
        "NOTICE",
        "added_tokens.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    }
)
_PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
_HEADER_LIMIT = 100_000_000
_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as a header describes it; `start` and `end` are byte offsets into the payload."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def pickles_among(names: Iterable[str]) -> list[str]:
    """The names whose suffix says that they are pickles."""
    return sorted(name for name in names if PurePosixPath(name).suffix.lower() in _PICKLE_SUFFIXES)


def weight_names(names: Iterable[str], index: Mapping[str, Any] | None) -> list[str]:
    """The weight files to take from a folder or repository that holds `names`.

    Raises StageError where there are none, two sets of them, or a shard of the index is missing.
    """
    present = set(names)
    if SINGLE in present and INDEX in present:
        raise StageError(f"both {SINGLE} and {INDEX} are there, so it is unclear which weights count; remove one")
    if SINGLE in present:
        return [SINGLE]
    if index is None:
        raise StageError(_no_weights(present))
    shards = sorted(set(shard_map(index).values()))
    for shard in shards:
        if shard not in present:
            raise StageError(f"shard {shard} is missing although {INDEX} names it; fetch it again")
    return shards


def _no_weights(present: set[str]) -> str:
    pickles = pickles_among(present)
    if pickles:
        return f"the weights are pickles ({pickles[0]}), which can run code when loaded; convert them to safetensors"
    if any(name.endswith(".safetensors") for name in present):
        return f"neither {SINGLE} nor {INDEX} is there; fetch the index that belongs to the shards"
    return f"no weights: neither {SINGLE} nor {INDEX} is there; give a folder in transformers' format"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises StageError on anything else."""
    try:
        value = loads(path.read_text(encoding="utf-8"), path.name)
    except (HrmctlError, UnicodeDecodeError, OSError) as error:
        raise StageError(f"{path.name} cannot be read ({error}); fetch it again") from error
    if not isinstance(value, dict):
        raise StageError(f"{path.name} is not a JSON object; fetch it again")
    return value


def shard_map(index: Mapping[str, Any]) -> Mapping[str, str]:
    """Shard by tensor from an index. Raises StageError where the map is malformed or leaves the folder."""
    entries = index.get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise StageError(f"{INDEX} has no weight_map; fetch it again")
    for shard in entries.values():
        if not isinstance(shard, str) or PurePosixPath(shard).name != shard or not shard.endswith(".safetensors"):
            raise StageError(f"{INDEX} names {shard!r}, which is not a safetensors file of this folder; fetch it again")
    return entries


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file, after checking that header and payload fit exactly.

    Raises StageError: a pickle in disguise, truncated, trailing bytes, overlapping or gapped offsets, unknown dtype.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        _refuse_pickle(path.name, start)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > _HEADER_LIMIT and 8 + length <= size:
            raise StageError(f"{path.name} has a header of {length} bytes; it is no safetensors file, fetch it again")
        if 8 + length > size:
            raise StageError(f"{path.name} is truncated within its header ({size} bytes); fetch it again")
        header = _parse(path.name, stream.read(length))
    tensors = {name: _tensor(path.name, name, entry) for name, entry in header.items() if name != "__metadata__"}
    _check_cover(path.name, tensors, size - 8 - length)
    return tensors


def _refuse_pickle(name: str, start: bytes) -> None:
    zipped = start.startswith(b"PK\x03\x04")
    plain = len(start) > 2 and start[0] == 0x80 and start[1] <= 5 and start[2:8] != bytes(6)
    if zipped or plain:
        raise StageError(f"{name} is a pickle under another name, which can run code; convert it to safetensors")


def _parse(name: str, raw: bytes) -> dict[str, Any]:
    try:
        header = loads(raw.decode("utf-8"), name)
    except (HrmctlError, UnicodeDecodeError) as error:
        raise StageError(f"{name} has a header that is not JSON ({error}); fetch it again") from error
    if not isinstance(header, dict):
        raise StageError(f"{name} has a header that is not a JSON object; fetch it again")
    return header


def _tensor(file: str, name: str, entry: Any) -> TensorInfo:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        sound = dtype in _SIZES and all(type(n) is int and n >= 0 for n in (*shape, start, end))
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise StageError(f"{file}: the header's entry for {name} is malformed; fetch it again")
    if end - start != math.prod(shape) * _SIZES[dtype]:
        raise StageError(f"{file}: {name} has {end - start} bytes, not what its shape and dtype need; fetch it again")
    return TensorInfo(file, dtype, shape, start, end)


def _check_cover(file: str, tensors: Mapping[str, TensorInfo], payload: int) -> None:
    if not tensors:
        raise StageError(f"{file} holds no tensor; fetch it again")
    expected = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != expected:
            fault = "overlaps the tensor before it" if info.start < expected else "leaves a gap before it"
            raise StageError(f"{file}: {name} {fault} (offset {info.start}, expected {expected}); fetch it again")
        expected = info.end
    if payload < expected:
        raise StageError(f"{file} is truncated: {expected - payload} bytes of its payload are missing; fetch it again")
    if payload > expected:
        raise StageError(f"{file} has {payload - expected} trailing bytes that belong to no tensor; fetch it again")


def read_weights(folder: Path, names: Iterable[str], index: Mapping[str, Any] | None) -> dict[str, TensorInfo]:
    """Every tensor of every weight file by name, agreeing with the index where there is one. Raises StageError."""
    tensors: dict[str, TensorInfo] = {}
    for name in names:
        for tensor, info in read_header(folder / name).items():
            if tensor in tensors:
                raise StageError(f"{tensor} is both in {tensors[tensor].file} and in {name}; fetch the model again")
            tensors[tensor] = info
    if index is not None:
        _check_index(shard_map(index), tensors)
    return tensors


def tensors_of(folder: Path, names: Iterable[str]) -> dict[str, TensorInfo]:
    """`read_weights` of a folder with the index that lies in it. Raises StageError."""
    return read_weights(folder, names, read_json(folder / INDEX) if (folder / INDEX).is_file() else None)


def _check_index(places: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> None:
    for tensor, shard in places.items():
        if tensor not in tensors or tensors[tensor].file != shard:
            raise StageError(f"{tensor} is not in {shard} although {INDEX} says so; fetch the model again")
    extra = sorted(tensors.keys() - places.keys())
    if extra:
        raise StageError(f"{extra[0]} is in {tensors[extra[0]].file} but not in {INDEX}; fetch the model again")
