"""Corruptions planted in a copy of a model that was found whole: what the checks of an import let through.

Each is made in the smallest weight file, in place and without changing its length unless that is the corruption. The
other files are linked. A corruption counts as refused only where the refusal names it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl import StageError
from hrmctl.jsonio import file_digest
from hrmctl_import.checksums import Expected, compare
from hrmctl_import.files import TensorInfo, read_header

_NANS = {"F32": "<f", "F16": "<e", "F64": "<d"}
_BF16_NAN = b"\xc0\x7f"


@dataclass(frozen=True, slots=True)
class Corruption:
    """A change to the bytes of a weight file, and what a refusal of it says (a regular expression)."""

    name: str
    plant: Callable[[Path, Mapping[str, TensorInfo]], None]
    refusal: str


def _flip_bit(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)[0]
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))


def _truncate(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _write_nan(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    info = next(info for info in tensors.values() if _oblong(info))
    nan = _BF16_NAN if info.dtype == "BF16" else struct.pack(_NANS[info.dtype], float("nan"))
    with path.open("r+b") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        stream.seek(8 + length + info.start)
        stream.write(nan)


def _transpose(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    name = next(name for name, info in tensors.items() if _oblong(info))
    _edit_header(path, lambda header: header[name]["shape"].reverse())


def _oblong(info: TensorInfo) -> bool:
    floating = info.dtype in (*_NANS, "BF16")
    return floating and len(info.shape) == 2 and info.shape[0] != info.shape[1] and info.end > info.start


def _rename(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    name = max(tensors, key=lambda n: tensors[n].end - tensors[n].start)

    def rename(header: dict[str, Any]) -> None:
        header[f"{name[:-1]}~"] = header.pop(name)

    _edit_header(path, rename)


def _edit_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with path.open("r+b") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        header = json.loads(stream.read(length))
        change(header)
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        stream.seek(8)
        stream.write(text.ljust(length))


CORRUPTIONS = (
    Corruption("flipped bit", _flip_bit, "is corrupt"),
    Corruption("truncated file", _truncate, "is truncated"),
    Corruption("NaN in a tensor", _write_nan, "NaN or infinite values"),
    Corruption("transposed tensor", _transpose, "has shape"),
    Corruption("tensor missing", _rename, "missing from the weights|is not in "),
)


def refused(folder: Path, weights: Sequence[str], scratch: Path, examine: Callable[[Path], Any]) -> dict[str, str]:
    """What `examine` says of each corruption of `folder`, by the corruption's name; empty where it is not refused.

    `examine` raises StageError for a folder that is not whole. The flipped bit, which only a checksum can tell, is
    compared with that of the file it was planted in.
    """
    headers = {name: read_header(folder / name) for name in weights}
    usable = [name for name, tensors in headers.items() if any(map(_oblong, tensors.values()))]
    if not usable:
        raise StageError("self_test needs a matrix that is not square to corrupt, and there is none; leave it out")
    file = min(usable, key=lambda name: (folder / name).stat().st_size)
    expected = Expected("sha256", file_digest(folder / file), "its own checksum from before")
    tensors = headers[file]
    found = {}
    for corruption in CORRUPTIONS:
        with _copy(folder, file, scratch) as copy:
            corruption.plant(copy / file, tensors)
            checksum = expected if corruption.plant is _flip_bit else None
            said = _refusal(copy, file, checksum, examine)
        found[corruption.name] = said if re.search(corruption.refusal, said) else ""
    return found


@contextmanager
def _copy(folder: Path, file: str, scratch: Path) -> Iterator[Path]:
    target = scratch / "planted"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    try:
        for path in folder.iterdir():
            if path.name == file:
                shutil.copyfile(path, target / file)
            else:
                os.link(path, target / path.name)
        yield target
    except OSError as error:
        reason = f"cannot copy {file} to plant a corruption ({error.strerror or error}); free space and run it again"
        raise StageError(reason) from error
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _refusal(copy: Path, file: str, expected: Expected | None, examine: Callable[[Path], Any]) -> str:
    try:
        if expected is not None:
            compare(file, expected, file_digest(copy / file))
        examine(copy)
    except StageError as error:
        return str(error)
    return ""
