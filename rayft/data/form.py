"""How the images of a source are stored."""

from dataclasses import dataclass

from rayft.plan.storage import stored_as
from rayft.spec.data import RGB, DataSpec, ResizeMode
from rayft.store.manifest import StoredAs
from rayft.store.shards import rows_per_shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How images are stored."""

    stored_as: StoredAs
    stored_size: int
    """Height and width in pixels of an image once it is decoded."""
    resize: ResizeMode
    channels: int = RGB

    def rows_per_shard(self, *, num_rows: int, file_bytes: int) -> int:
        """Return the rows of a full shard of a source.

        Args:
            num_rows: rows of the source.
            file_bytes: bytes of all its images as they come.
        """
        return rows_per_shard(self.stored_bytes(num_rows, file_bytes=file_bytes) / num_rows)

    def stored_bytes(self, num_rows: int, *, file_bytes: int) -> int:
        """Return about how many bytes the images take."""
        if self.stored_as == "encoded":
            return file_bytes
        return num_rows * self.stored_size**2 * self.channels


def form_of(data: DataSpec, *, num_rows: int, stored_size: int) -> Form:
    """Return how a source of `num_rows` rows is stored."""
    kind = stored_as(data, num_rows=num_rows, stored_size=stored_size)
    return Form(stored_as=kind, stored_size=stored_size, resize=data.resize, channels=data.channels)
