"""What can be said of an architecture when a plan is made, without building it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hrmctl import Fault
from hrmctl.plugins import Catalog
from hrmctl.yamlio import suggest


def architecture_faults(
    init: str | None, config: Mapping[str, Any], catalog: Catalog, key: str = "init"
) -> Iterator[Fault]:
    """An unknown architecture `init`, which the parameter `key` names, and names in `config` that it has not."""
    if init is None:
        if config:
            yield Fault("config", "changes the architecture of fresh weights", f"set {key}; a model keeps its own")
        return
    known = catalog.architectures
    if init not in known:
        yield Fault(key, f"no architecture '{init}'", catalog.unknown(init, known) or f"known: {', '.join(known)}")
        return
    settings = known[init].settings
    for name in sorted(config.keys() - set(settings)) if settings else ():
        near = suggest(name, settings) or f"known: {', '.join(settings)}"
        yield Fault(f"config.{name}", f"{init} has no setting '{name}'", near)
