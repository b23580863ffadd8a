"""Write `spec.md` and `spec.schema.json` beside this file: `python docs/reference/generate.py`."""

from pathlib import Path

from rayft.spec.reference import reference_page, schema_json

here = Path(__file__).parent
(here / "spec.md").write_text(reference_page(), encoding="utf-8")
(here / "spec.schema.json").write_text(schema_json(), encoding="utf-8")
