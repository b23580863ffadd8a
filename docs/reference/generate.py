"""Write the pages and JSON schemas of the specs: `python docs/reference/generate.py`."""

from pathlib import Path

from rayft.spec.reference import reference_page, schema_json
from rayft.spec.sweep_reference import sweep_page, sweep_schema_json

here = Path(__file__).parent
(here / "spec.md").write_text(reference_page(), encoding="utf-8")
(here / "spec.schema.json").write_text(schema_json(), encoding="utf-8")
(here / "sweep.md").write_text(sweep_page(), encoding="utf-8")
(here / "sweep.schema.json").write_text(sweep_schema_json(), encoding="utf-8")
