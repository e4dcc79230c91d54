"""Lazy targets: `"module:attribute"` strings that are imported only when the thing they name is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from hrmctl.errors import HrmctlError
from hrmctl.yamlio import suggest


def resolve(target: str) -> Callable[..., Any]:
    """The callable that `target` names. Raises HrmctlError when the module or the attribute is not there."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise HrmctlError(f"'{target}' is not a target; write 'module:function'")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise HrmctlError(f"cannot import {module_name}: {error}; is its extra installed?") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise HrmctlError(f"{module_name} has no function '{attribute}'; {suggest(attribute, vars(module))}")
    return found  # type: ignore[no-any-return]
