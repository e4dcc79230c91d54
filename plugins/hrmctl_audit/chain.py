"""The ledger's rows in a bundle, followed from hash to hash; nothing of what wrote them is called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from hrmctl import HrmctlError
from hrmctl.jsonio import canonical, loads

ROWS, HEAD = "ledger.jsonl", "ledger.head.json"
_NEEDED = {"check", "contract", "subject", "profile", "verdict", "seq", "prev", "hash"}
Row = Mapping[str, Any]


def recorded(folder: Path, check: str) -> tuple[dict[str, Row], str]:
    """The rows of `check` by obligation, and what is wrong with the chain: then none of them holds.

    Without the file `ledger.jsonl` there are no rows, and nothing is wrong with them.
    """
    if not (folder / ROWS).is_file():
        return {}, ""
    try:
        text, head = ((folder / name).read_bytes().decode() for name in (ROWS, HEAD))
        rows = [_row(line) for line in text.split("\n")[:-1]]
        _follow(rows, loads(head, HEAD))
        return {_obligation(row): row for row in rows if row["check"] == check}, ""
    except (HrmctlError, OSError, UnicodeDecodeError, KeyError, TypeError) as error:
        return {}, f"{error}"


def _row(line: str) -> Row:
    row: Row = loads(line, ROWS)
    lost = _NEEDED - row.keys() if isinstance(row, dict) else _NEEDED
    if lost:
        raise HrmctlError(f"a row lacks {', '.join(sorted(lost))}")
    own = canonical({key: value for key, value in row.items() if key != "hash"})
    if hashlib.sha256(own.encode()).hexdigest() != row["hash"]:
        raise HrmctlError(f"row {row['seq']} does not have the hash that it says")
    return row


def _follow(rows: list[Row], head: Row) -> None:
    for before, row in pairwise(rows):
        if (row["prev"], row["seq"]) != (before["hash"], before["seq"] + 1):
            raise HrmctlError(f"row {row['seq']} does not follow from the row before it")
    if not rows or (rows[-1]["hash"], rows[-1]["seq"]) != (head["hash"], head["seq"]):
        raise HrmctlError("the last row is not the one that the head names")


def _obligation(row: Row) -> str:
    return f"{row['contract']}/{row['subject']}" + (f"@{row['profile']}" if row["profile"] else "")
