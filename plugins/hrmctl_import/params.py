"""Parameters of the stage `import`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from hrmctl.schema import doc

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SELF_TEST = "then plant corruptions in copies of the model, and measure how many of them the same checks refuse"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ImportParams:
    """Where the model comes from, and what is known of its bytes. Give `source` or the input `folder`."""

    source: Annotated[str | None, doc("name on the hub, such as Qwen/Qwen2.5-Coder-0.5B")] = None
    revision: Annotated[str, doc("branch, tag or commit on the hub; the commit it stands for is recorded")] = "main"
    checksums: Annotated[
        dict[str, str], doc("sha256 (hex) by file name, besides those in the folder's own SHA256SUMS")
    ] = field(default_factory=dict)
    digest: Annotated[str | None, doc("content digest that the input folder must have (sha256 hex)")] = None
    ignore_pickles: Annotated[
        bool, doc("leave pickles in the folder unread and uncopied, instead of refusing the folder")
    ] = False
    mixed_dtypes: Annotated[bool, doc("accept floating tensors of another precision than config.json says")] = False
    ignore_extra: Annotated[
        bool, doc("accept tensors that the model has no use for, such as buffers that old versions saved")
    ] = False
    self_test: Annotated[bool, doc(_SELF_TEST)] = False
    probe: Annotated[str, doc("text of the forward pass that must give finite logits")] = "def add(a, b):\n    return"

    def __post_init__(self) -> None:
        if self.source is not None and not _REPOSITORY.fullmatch(self.source):
            raise ValueError(f"source: {self.source!r} is not a hub name (owner/name); give a local path as folder")
        for name, digest in self.checksums.items():
            if not _SHA256.fullmatch(digest):
                raise ValueError(f"checksums.{name}: {digest!r} is not a sha256 (64 lower-case hex digits)")
        if not self.probe.strip():
            raise ValueError("probe: must not be empty")
