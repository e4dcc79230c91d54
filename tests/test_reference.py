"""The committed reference page and schemas are those that the code gives."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from hrmctl.plugins import built_in, catalog
from hrmctl.reference import reference_page, schemas
from hrmctl.yamlio import load

ROOT = Path(__file__).resolve().parents[1]


def test_the_reference_page_is_up_to_date() -> None:
    assert (ROOT / "docs/reference.md").read_text() == reference_page(built_in(catalog())), "run: make docs"


@pytest.mark.parametrize("name", ["recipe", "contract", "gate"])
def test_the_schemas_are_up_to_date_and_valid(name: str) -> None:
    committed = json.loads((ROOT / "docs/schema" / f"{name}.json").read_text())
    assert committed == json.loads(json.dumps(schemas(built_in(catalog()))[name])), "run: make docs"
    jsonschema.Draft202012Validator.check_schema(committed)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_opens_with_its_purpose_and_command_and_fits_the_schema(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert any(line.startswith(f"#   hrmctl pipeline recipes/{path.name}") for line in lines[1:4])
    jsonschema.validate(load(path).plain(), schemas(catalog())["recipe"])


@pytest.mark.parametrize("path", sorted((ROOT / "contracts").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_contract_opens_with_its_command_and_fits_the_schema(path: Path) -> None:
    place = path.relative_to(ROOT)
    assert path.read_text().startswith(f"# hrmctl check {place}")
    document = load(path).plain()
    jsonschema.validate(document, schemas(catalog())[document["kind"]])
