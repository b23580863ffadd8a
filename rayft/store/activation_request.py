"""A store of activations that is wanted, and what is known of one that is not finished."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from rayft.store.activation_manifest import (
    FORMAT_VERSION,
    ActivationManifest,
    ActivationType,
    bytes_of_row,
    described,
)
from rayft.store.manifest import FileRecord
from rayft.store.shards import rows_per_shard

REQUEST_NAME = "request.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRequest:
    """A store of activations that is wanted."""

    key: str
    """Hash, in hexadecimal, of everything that the rows follow from."""
    about: Mapping[str, str]
    """What they are made from, for people; lists show `backbone`, `cut` and `view`."""
    shape: tuple[int, ...]
    """Shape of one row."""
    dtype: ActivationType
    num_rows: int
    """At least 1."""
    format_version: int = FORMAT_VERSION

    @property
    def rows_per_shard(self) -> int:
        """Rows of every shard but the last."""
        return rows_per_shard(bytes_of_row(self.shape, self.dtype))

    @property
    def expected_bytes(self) -> int:
        """Bytes of all rows; the files take a little more."""
        return self.num_rows * bytes_of_row(self.shape, self.dtype)

    def manifest(self, shards: tuple[FileRecord, ...]) -> ActivationManifest:
        """Return the manifest of the finished store."""
        assert sum(shard.rows for shard in shards) == self.num_rows, "a shard is missing"
        return ActivationManifest(
            key=self.key,
            about=dict(self.about),
            shape=self.shape,
            dtype=self.dtype,
            rows_per_shard=self.rows_per_shard,
            shards=shards,
        )

    def to_json(self) -> str:
        """Return the request as JSON text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            ValueError: the text is no request of this format version.
            TypeError: fields are missing or of another kind.
        """
        return cls(**described(json.loads(text)))
