"""Where things lie below a `storage_path`."""

from pathlib import Path

from rayft.storage.location import Location


def storage_at(text: str, *, base_dir: Path, where: str) -> Location:
    """Return the folder that a user's text means, the same for every way to write it.

    Args:
        text: a path, relative or with `~`, or an address.
        base_dir: the folder that relative paths start from.
        where: the setting it comes from, for the message.

    Raises:
        SpecError: the address is of a kind that cannot be read.
    """
    storage = Location.parse(text, base_dir=base_dir, where=where)
    return Location(str(storage.path.resolve())) if storage.is_local else storage


def store_root_of(storage: Location) -> Location:
    """Return the folder of prepared rows and of activations, shared by all runs."""
    return storage / ".stores"
