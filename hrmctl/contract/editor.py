"""JSON Schema 2020-12 of contract and gate files, so that editors complete and check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hrmctl.contract.clauses import ClauseDoc
from hrmctl.contract.gate import GateControlDoc, GateDoc, RuleDoc
from hrmctl.contract.parse import ContractDoc, ControlDoc, MeasureHead, QueryDoc
from hrmctl.model import MeasureSpec
from hrmctl.schema import json_schema

_CLAUSE = {"$ref": "#/$defs/clause"}
_LABELS = {
    "type": "object",
    "properties": {"needs": {"type": "array", "items": {"type": "string"}}},
    "additionalProperties": {"type": "string"},
}
_RIGHT = {"type": ["number", "boolean", "string", "array"]}


def contract_schema(measures: Mapping[str, MeasureSpec]) -> dict[str, Any]:
    """The schema of every file that `load_contracts` reads, with the parameters of these measures."""
    contract, gate = json_schema(ContractDoc), json_schema(GateDoc)
    contract["properties"] |= {
        "subjects": _section(contract, "subjects", _LABELS),
        "evidence": _section(contract, "evidence", json_schema(QueryDoc)),
        "measure": _section(contract, "measure", {"anyOf": [_measure(measures[name]) for name in sorted(measures)]}),
        "require": _listed(contract, "require", _CLAUSE),
        "profiles": _section(contract, "profiles", {"type": "object", "additionalProperties": _RIGHT}),
        "controls": _listed(contract, "controls", _filled(ControlDoc, data={"type": "object"})),
    }
    gate["properties"] |= {
        "rules": _listed(gate, "rules", _filled(RuleDoc, when=_CLAUSE)),
        "controls": _listed(gate, "controls", json_schema(GateControlDoc)),
    }
    parts = {"type": "array", "items": _CLAUSE}
    clause = _filled(ClauseDoc, right=_RIGHT, all=parts, any=parts, not_=_CLAUSE)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hrmctl contract or gate",
        "$defs": {"clause": clause, "contract": contract, "gate": gate},
        "oneOf": [{"$ref": "#/$defs/contract"}, {"$ref": "#/$defs/gate"}],
    }


def _filled(cls: type, **parts: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of `cls` with the schemas of its free-form fields put in, keeping their documentation."""
    schema = json_schema(cls)
    for attribute, part in parts.items():
        name = attribute.rstrip("_")
        schema["properties"][name] = {**part, "description": schema["properties"][name].get("description", "")}
    return schema


def _section(schema: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    text = schema["properties"][name].get("description", "")
    return {"type": "object", "minProperties": 1, "additionalProperties": entry, "description": text}


def _listed(schema: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    text = schema["properties"][name].get("description", "")
    return {"type": "array", "minItems": 1, "items": entry, "description": text}


def _measure(spec: MeasureSpec) -> dict[str, Any]:
    schema, head = json_schema(spec.params), json_schema(MeasureHead)
    own = {"fn": {"const": spec.name, "description": spec.summary}, "of": head["properties"]["of"]}
    required = ["fn", "of", *schema.get("required", [])]
    return {**schema, "properties": {**own, **schema["properties"]}, "required": required}
