"""Descriptions of what plugins provide, for `plugins show` and the generated reference pages."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrmctl.contract.editor import contract_schema
from hrmctl.contract.gate import GateDoc
from hrmctl.jsonio import write_atomic
from hrmctl.model import DatasetSpec, MeasureSpec, StageSpec
from hrmctl.plugins import Catalog, built_in, catalog
from hrmctl.recipe.parse import RecipeEntry
from hrmctl.schema import fields_of, json_schema

KINDS = (
    *("stages", "measures", "commands", "architectures", "datasets"),
    *("executors", "reporters", "trackers", "diagnostics"),
)


def tables(found: Catalog) -> dict[str, Mapping[str, Any]]:
    """Every table of the catalogue by kind."""
    return {kind: getattr(found, kind) for kind in KINDS}


def describe(kind: str, spec: Any) -> str:
    """A Markdown section on one provided thing."""
    lines = [f"### `{spec.name}`", "", spec.summary]
    if isinstance(spec, StageSpec):
        lines += ["", *_ports("input", spec.inputs), *_ports("output", spec.outputs)]
        lines += _parameters(spec.params)
    if isinstance(spec, MeasureSpec):
        low, high = spec.arity
        count = str(low) if low == high else f"{low} to {high}"
        lines += ["", f"Takes {count} of {', '.join(f'`{t}`' for t in spec.accepts)}."]
        lines += _parameters(spec.params)
        lines += ["", "Returns:", "", *[f"* `{name}`: {text}" for name, text in spec.returns.items()]]
    if isinstance(spec, DatasetSpec):
        splits = ", ".join(f"{name} {count}" for name, count in spec.splits.items())
        lines += ["", f"Splits: {splits}. Licence: {spec.licence}. sha256 `{spec.sha256}`.", "", f"<{spec.url}>"]
    return "\n".join(lines) + "\n"


def _ports(word: str, ports: Mapping[str, Any]) -> list[str]:
    result = []
    for name, port in ports.items():
        flags = [port.type]
        if getattr(port, "many", False):
            flags.append("one or more")
        if not getattr(port, "required", True) or getattr(port, "optional", False):
            flags.append("optional")
        result.append(f"* {word} `{name}` ({', '.join(flags)}): {port.summary}")
    return result


def _parameters(cls: type) -> list[str]:
    fields = fields_of(cls)
    if not fields:
        return []
    rows = ["", "| parameter | type | default | meaning |", "|---|---|---|---|"]
    for field in fields:
        default = "required" if field.required else f"`{field.default}`"
        rows.append(f"| `{field.name}` | {_type_name(field.type)} | {default} | {field.doc} |".replace("\n", " "))
    return rows


def _type_name(kind: Any) -> str:
    text = getattr(kind, "__name__", "") if not getattr(kind, "__args__", None) else str(kind)
    return text.replace("typing.", "").replace("|", "\\|").replace("NoneType", "None")


def reference_page(found: Catalog) -> str:
    """A page on every stage, measure, data set, … with its parameters, and every hook."""
    from hrmctl import hookspecs

    parts = ["# Reference", "", "Generated from the code by `make docs`; do not edit.", ""]
    for kind, table in tables(found).items():
        if table:
            parts += [f"## {kind.capitalize()}", "", *[describe(kind, spec) for spec in table.values()]]
    parts += ["## Hooks", ""]
    for name in sorted(n for n in vars(hookspecs) if n.startswith("hrmctl_")):
        parts += [f"### `{name}`", "", (getattr(hookspecs, name).__doc__ or "").strip(), ""]
    return "\n".join(parts)


# --- JSON Schemas -----------------------------------------------------------------------------------

_DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
_REFERENCE = {"type": "string", "pattern": r"^\$\{.*\}$"}


def schemas(found: Catalog) -> dict[str, dict[str, Any]]:
    """The JSON Schemas of recipes, contracts and gates, for editors."""
    recipe = json_schema(RecipeEntry)
    recipe["properties"]["stages"]["additionalProperties"] = {
        "type": "object",
        "required": ["uses"],
        "oneOf": [_stage_schema(spec) for spec in found.stages.values()],
    }
    documents = {"recipe": recipe, "contract": contract_schema(found.measures), "gate": json_schema(GateDoc)}
    return {name: _DIALECT | document for name, document in documents.items()}


def _stage_schema(spec: StageSpec) -> dict[str, Any]:
    given = json_schema(spec.params)
    for name, entry in given["properties"].items():
        given["properties"][name] = {"anyOf": [entry, _REFERENCE]}
    for name, port in spec.inputs.items():
        one: dict[str, Any] = {"type": ["string", "null"]}
        given["properties"][name] = {"anyOf": [one, {"type": "array", "items": one}]} if port.many else one
    needed = [name for name, port in spec.inputs.items() if port.required]
    given["required"] = [*given.get("required", []), *needed]
    return {"description": spec.summary, "properties": {"uses": {"const": spec.name}, "with": given}}


def main(page: Path, folder: Path) -> None:
    """Write the reference page and the schemas of what hrmctl itself brings."""
    found = built_in(catalog())
    write_atomic(page, reference_page(found))
    for name, document in schemas(found).items():
        write_atomic(folder / f"{name}.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
