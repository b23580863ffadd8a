"""What a store of activations says about itself: `manifest.json`, written last."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from rayft.storage.location import Location
from rayft.store.manifest import FileRecord, file_record, read_manifest

FORMAT_VERSION = 1
"""Raised whenever files or manifest change in a way that old code would misread."""

KEY_DIGITS = frozenset("0123456789abcdef")

ActivationType = Literal["fp32", "bf16", "fp16"]

_NUMPY: Mapping[ActivationType, npt.DTypeLike] = {
    "fp32": np.float32,
    # NumPy has no bf16: its bits travel as integers.
    "bf16": np.uint16,
    "fp16": np.float16,
}


def numpy_type(dtype: ActivationType) -> np.dtype[Any]:
    """Return the type of the arrays that hold activations; that of bf16 holds its bits."""
    return np.dtype(_NUMPY[dtype])


def bytes_of_row(shape: tuple[int, ...], dtype: ActivationType) -> int:
    """Return the bytes of one row."""
    return prod(shape) * numpy_type(dtype).itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationManifest:
    """The whole of a store of activations, except its rows."""

    key: str
    """Hash, in hexadecimal, of everything that the rows follow from."""
    about: Mapping[str, str]
    """What they were made from, for people; lists show `backbone`, `cut` and `view`."""
    shape: tuple[int, ...]
    """Shape of one row: [C] features, or [C, H, W] at a cut."""
    dtype: ActivationType
    rows_per_shard: int
    """Rows in every shard but the last."""
    shards: tuple[FileRecord, ...]
    format_version: int = FORMAT_VERSION

    @property
    def num_rows(self) -> int:
        """Rows in the store."""
        return sum(shard.rows for shard in self.shards)

    def to_json(self) -> str:
        """Return the manifest as JSON text, the same for equal manifests."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            ValueError: the text is not a manifest of this format version.
            TypeError: fields are missing or of another kind.
        """
        fields = described(json.loads(text))
        fields["shards"] = tuple(file_record(entry) for entry in fields["shards"])
        return cls(**fields)


def described(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON fields that tell what activations are, each as a dataclass holds it.

    Raises:
        ValueError: they are of another format version, or a value is none of its kind.
    """
    if fields.get("format_version") != FORMAT_VERSION:
        found = fields.get("format_version")
        raise ValueError(f"expected format version {FORMAT_VERSION}, found {found}")
    if not is_key(str(fields["key"])):
        raise ValueError("the key is not hexadecimal")
    if fields["dtype"] not in get_args(ActivationType):
        raise ValueError(f"{fields['dtype']!r} is no type of activations")
    about = {str(name): str(text) for name, text in dict(fields["about"]).items()}
    return {**fields, "about": about, "shape": tuple(int(size) for size in fields["shape"])}


def is_key(name: str) -> bool:
    """Return whether a name can be the key of a store."""
    return bool(name) and set(name) <= KEY_DIGITS


def load_activation_manifest(folder: Location) -> ActivationManifest:
    """Read the manifest of the store in `folder`.

    Raises:
        DataError: it is missing, damaged or of another format version.
    """
    return read_manifest(folder, ActivationManifest.from_json, fix=fix_for(folder))


def fix_for(store: Location) -> str:
    """Return what helps where the store of activations in a folder is damaged."""
    # STORAGE/.stores/activations/KEY
    storage = store.parent.parent.parent
    again = "it is computed again when it is next needed"
    return f"drop it with `rayft cache rm {storage} {store.name[:12]}`: {again}"
