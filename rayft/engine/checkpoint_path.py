"""Which checkpoint a path means: itself, or the best of a run. Names only; nothing is read."""

from pathlib import Path

BEST = "best"
"""File in the folder of checkpoints that holds the name of the best one."""
MANIFEST = "manifest.json"


def checkpoint_names(folder: Path) -> list[str]:
    """Return the names of the complete checkpoints in a run's `checkpoints`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.glob("step-*") if entry.is_dir())


def best_name(folder: Path) -> str | None:
    """Return the name of the best checkpoint in `folder`, or None before there is one."""
    file = folder / BEST
    # Only the last part of what the file holds: it must not lead out of the folder.
    return Path(file.read_text().strip()).name if file.is_file() else None


def checkpoint_at(path: Path) -> Path | None:
    """Return the checkpoint that `path` is, or the best of the run that it is.

    Where a run has not named a best one yet, its newest; None where there is none at all.
    """
    if (path / MANIFEST).is_file():
        return path
    folder = path if path.name == "checkpoints" else path / "checkpoints"
    names = checkpoint_names(folder)
    chosen = best_name(folder) or (names[-1] if names else None)
    if chosen is None or not (folder / chosen / MANIFEST).is_file():
        return None
    return folder / chosen
