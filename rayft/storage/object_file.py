"""An object as a seekable file."""

import io

from rayft.storage.object_store import read_range
from rayft.storage.state import FileState

BUFFER_BYTES = 2**20
"""Bytes that are fetched at once where little is asked for, as for the footer of a table."""


class ObjectFile(io.RawIOBase):
    """Reads one version of an object; every read is one request."""

    def __init__(self, bucket: str, key: str, state: FileState) -> None:
        super().__init__()
        self._bucket = bucket
        self._key = key
        self._state = state
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the place of the next read."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._state.size}
        if start[whence] + offset < 0:
            raise ValueError(f"{offset} lies before the beginning")
        self._position = start[whence] + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` bytes, fewer at the end; all that are left by default.

        Raises:
            Changed: the object is another one by now.
            StorageFault: the store failed.
        """
        left = max(0, self._state.size - self._position)
        length = left if size is None or size < 0 else min(size, left)
        content = self._range(self._position, length)
        self._position += len(content)
        return content

    def readall(self) -> bytes:
        """Return all that is left."""
        return self.read()

    def readinto(self, buffer: object) -> int:
        """Fill a buffer, or as much of it as is left; return the number of bytes."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # typeshed: any buffer
        content = self.read(len(view))
        view[: len(content)] = content
        return len(content)

    def _range(self, start: int, length: int) -> bytes:
        if not length:
            return b""
        return read_range(self._bucket, self._key, start, length, version=self._state.version)
