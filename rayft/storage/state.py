"""What is known of a file without reading it, and how reading can fail."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it is now."""

    size: int
    version: str
    """Changes with the content: an object's ETag, or the times of a local file."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file below a folder."""

    path: str
    """Relative to the folder, with `/`."""
    size: int
    version: str


class Changed(OSError):  # noqa: N818  a state of the file
    """The file is no longer the version that was asked for."""


class StorageFault(OSError):  # noqa: N818  as above
    """An object store cannot be reached, or refused; `strerror` says why in one line."""
