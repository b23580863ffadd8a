"""The generated pages equal what the generator gives now."""

from collections.abc import Callable

import pytest

from rayft.spec.reference import reference_page, schema_json
from rayft.spec.sweep_reference import sweep_page, sweep_schema_json
from tests.docs.pages import DOCS

REGENERATE = "the spec has changed: run `python docs/reference/generate.py`"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("spec.md", reference_page),
        ("spec.schema.json", schema_json),
        ("sweep.md", sweep_page),
        ("sweep.schema.json", sweep_schema_json),
    ],
)
def test_a_generated_page_is_up_to_date(name: str, made: Callable[[], str]) -> None:
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == made(), REGENERATE
