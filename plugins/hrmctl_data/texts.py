"""Running text as rows: one `{text}` a document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hrmctl import StageError

_TITLE = re.compile(r"^ = [^=\n]+ = $", re.MULTILINE)


def wikitext(path: Path) -> Mapping[str, Sequence[Mapping[str, str]]]:
    """The articles of WikiText-2's test file, one from each line ` = Title = ` on; joined they are the file again.

    Raises StageError where the file is not UTF-8 or has no such line.
    """
    try:
        whole = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StageError(f"{path.name} is not UTF-8 text ({error}); give the file of the data set") from error
    starts = [found.start() for found in _TITLE.finditer(whole)]
    if not starts:
        raise StageError(f"{path.name} has no line ' = Title = ' that begins an article; give the file of the data set")
    starts[0] = 0
    return {"test": [{"text": whole[begin:end]} for begin, end in zip(starts, [*starts[1:], None], strict=True)]}
