"""The generated pages equal what the generator gives now."""

from rayft.spec.reference import reference_page, schema_json
from tests.docs.pages import DOCS

REGENERATE = "the spec has changed: run `python docs/reference/generate.py`"


def test_the_page_of_settings_is_up_to_date() -> None:
    page = (DOCS / "reference" / "spec.md").read_text(encoding="utf-8")

    assert page == reference_page(), REGENERATE


def test_the_schema_is_up_to_date() -> None:
    schema = (DOCS / "reference" / "spec.schema.json").read_text(encoding="utf-8")

    assert schema == schema_json(), REGENERATE
