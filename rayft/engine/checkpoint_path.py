"""Which checkpoint a place means: itself, or the best of a run. Names only; nothing is read."""

from pathlib import Path

from rayft.storage.location import Location

BEST = "best"
"""File in the folder of checkpoints that holds the name of the best one."""
MANIFEST = "manifest.json"


def checkpoint_names(folder: Location) -> list[str]:
    """Return the names of the complete checkpoints in a run's `checkpoints`, oldest first."""
    names = [name for name in folder.children() if name.startswith("step-")]
    if folder.is_local:
        # Renamed as a whole: without a manifest it is a damaged one, not one being written.
        return names
    # The manifest comes last, so it tells a checkpoint from one that is being written.
    return [name for name in names if (folder / name / MANIFEST).exists()]


def best_name(folder: Location) -> str | None:
    """Return the name of the best checkpoint in `folder`, or None before there is one."""
    try:
        name = (folder / BEST).read_bytes().decode()
    except FileNotFoundError:
        return None
    # Only the last part of what the file holds: it must not lead out of the folder.
    return Path(name.strip()).name


def checkpoint_at(place: Location) -> Location | None:
    """Return the checkpoint that `place` is, or the best of the run that it is.

    Where a run has not named a best one yet, its newest; None where there is none at all.
    """
    if (place / MANIFEST).exists():
        return place
    folder = place if place.name == "checkpoints" else place / "checkpoints"
    chosen = best_name(folder)
    if chosen is None:
        names = checkpoint_names(folder)
        chosen = names[-1] if names else None
    if chosen is None or not (folder / chosen / MANIFEST).exists():
        return None
    return folder / chosen
