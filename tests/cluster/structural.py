"""Check a manifest against a custom resource definition, unknown fields included.

A Kubernetes server drops fields that the schema does not name, without an error unless it is asked
for one. Here they are refused, because a misspelt setting without effect is worse than an error.
"""

from collections.abc import Mapping
from typing import Any

import jsonschema

Schema = dict[str, Any]


def strict_schema(definition: Mapping[str, Any], version: str) -> Schema:
    """Return the JSON schema of a version of a definition, closed to unknown fields."""
    versions = {each["name"]: each for each in definition["spec"]["versions"]}
    schema = _closed(versions[version]["schema"]["openAPIV3Schema"])
    # The server knows these by itself; a definition says only that there is such an object.
    schema["properties"]["apiVersion"] = {"const": f"{definition['spec']['group']}/{version}"}
    schema["properties"]["kind"] = {"const": definition["spec"]["names"]["kind"]}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema


def problems(manifest: Mapping[str, Any], schema: Schema) -> list[str]:
    """Return what is wrong with a manifest, with the path of each problem."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    return sorted(f"{error.json_path}: {error.message}" for error in found)


def _closed(schema: Mapping[str, Any]) -> Schema:
    # `anyOf` and its like name no fields in a structural schema: they narrow what stands beside.
    closed = {**schema, **_types(schema)}
    if "properties" in schema:
        closed["properties"] = {n: _closed(inner) for n, inner in schema["properties"].items()}
        if not _may_hold_more(schema):
            closed["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            closed[key] = _closed(schema[key])
    return closed


def _may_hold_more(schema: Mapping[str, Any]) -> bool:
    return bool(
        schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    )


def _types(schema: Mapping[str, Any]) -> Schema:
    types = [schema["type"]] if "type" in schema else []
    if schema.get("x-kubernetes-int-or-string"):
        # A pattern is for the text: JSON Schema passes it over for a number, as Kubernetes does.
        types = ["integer", "string"]
    if schema.get("nullable"):
        types = [*types, "null"]
    return {"type": types} if types else {}
