"""The page and the JSON schema of a sweep, read off its models."""

import json

from rayft.spec.reference import page_of
from rayft.spec.run import RunSpec
from rayft.spec.sweep import SweepSpec

_HEAD = """# Reference of the sweep spec

Generated from the models in `rayft/spec`. `NAME` stands for a path in the run, such as
`phases.1.lr.heads`; the settings of the run are those of the [run spec](spec.md).
"""


def sweep_page() -> str:
    """Return a Markdown page with every setting of a sweep: path, type, default and meaning."""
    return page_of(SweepSpec, _HEAD)


def sweep_schema_json() -> str:
    """Return the JSON schema of a sweep, the settings of its run in it, for editors."""
    schema = SweepSpec.model_json_schema(by_alias=True)
    run = RunSpec.model_json_schema(by_alias=True)
    schema["$defs"] |= run.pop("$defs")
    # The sweep gives the run its name.
    schema["$defs"]["RunSpec"] = run | {
        "required": [name for name in run["required"] if name != "name"]
    }
    schema["properties"]["run"]["anyOf"] = [{"type": "string"}, {"$ref": "#/$defs/RunSpec"}]
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
