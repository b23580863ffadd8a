"""Reading checkpoints: find, verify, load. Nothing is unpickled."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rayft.engine.checkpoint_path import MANIFEST, checkpoint_at
from rayft.engine.ports import Json
from rayft.errors import CheckpointError, Problem
from rayft.storage.commit import sha256_of
from rayft.storage.location import Location

FORMAT = 1
"""Version of the layout; a newer one is refused, never half-read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds."""

    manifest: Mapping[str, Json]
    """Everything but tensors."""
    tensors: Mapping[str, Mapping[str, Tensor]]
    """Tensors by file: `model`, `optimizer`, `average`."""


def read_manifest(folder: Location) -> dict[str, Json]:
    """Return a checkpoint's manifest.

    Raises:
        CheckpointError: there is none, or it is of a newer format.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            Problem(str(file), f"this is no checkpoint: {error}", "name a folder step-N of a run")
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise CheckpointError(
            Problem(
                str(file),
                f"expected checkpoint format {FORMAT}, found {found!r}",
                "use the rayft version that wrote it",
            )
        )
    return manifest


def find_damage(folder: Location) -> str | None:
    """Return what is wrong with a checkpoint's files, or None where every hash is right."""
    try:
        files = read_manifest(folder)["files"]
    except (CheckpointError, KeyError) as error:
        return f"unreadable manifest ({error.__class__.__name__})"
    if not isinstance(files, dict):
        return "manifest without a list of files"
    for name, entry in files.items():
        file = _place_of(folder, name, entry)
        state = None if file is None else file.stat()
        if file is None or state is None or not isinstance(entry, dict):
            return f"{name} is missing"
        if state.size != entry["bytes"]:
            return f"{name} has {state.size} bytes instead of {entry['bytes']}"
        if file.sha256() != entry["sha256"]:
            return f"{name} does not match its hash"
    return None


def _place_of(folder: Location, name: str, entry: Json) -> Location | None:
    """Return where a file of a checkpoint lies; None where its name leads elsewhere."""
    stored = entry.get("object", name) if isinstance(entry, dict) else name
    if Path(name).name != name or Path(str(stored)).name != stored:
        return None
    return folder / str(stored)


def read_checkpoint(folder: Location) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    with on_disk(folder) as path:
        manifest = read_manifest(folder)
        files = manifest["files"]
        assert isinstance(files, dict)
        try:
            tensors = {name.removesuffix(".safetensors"): load_file(path / name) for name in files}
        except SafetensorError as error:
            raise CheckpointError(
                Problem(str(folder), f"unreadable tensors: {error}", "use another checkpoint")
            ) from error
    return Checkpoint(manifest=manifest, tensors=tensors)


@contextmanager
def on_disk(folder: Location) -> Iterator[Path]:
    """Give the folder of a verified checkpoint on this machine's disk.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    manifest = read_manifest(folder)
    if folder.is_local:
        _refuse_damaged(folder, find_damage(folder))
        yield folder.path
        return
    with tempfile.TemporaryDirectory(prefix="rayft-checkpoint-") as temporary:
        _download(folder, manifest, Path(temporary))
        yield Path(temporary)


def _download(folder: Location, manifest: Mapping[str, Json], to: Path) -> None:
    files = manifest["files"]
    assert isinstance(files, dict)
    for name, entry in files.items():
        place = _place_of(folder, name, entry)
        if place is None or not isinstance(entry, dict) or not place.exists():
            _refuse_damaged(folder, f"{name} is missing")
            continue
        place.download(to / name)
        if sha256_of(to / name) != entry["sha256"]:
            _refuse_damaged(folder, f"{name} does not match its hash")
    (to / MANIFEST).write_bytes((folder / MANIFEST).read_bytes())


def _refuse_damaged(folder: Location, damage: str | None) -> None:
    if damage is not None:
        raise CheckpointError(
            Problem(str(folder), f"the checkpoint is damaged: {damage}", "use another checkpoint")
        )


def find_checkpoint(place: Location) -> Location:
    """Return the checkpoint that a user means: itself, or the best of a run.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    try:
        found = checkpoint_at(place)
    except OSError as error:
        what = f"it cannot be read: {error.strerror or error}"
        raise CheckpointError(Problem(str(place), what, "check the address")) from error
    if found is None:
        raise CheckpointError(
            Problem(
                str(place),
                "expected a run's folder or one of its checkpoints, found neither",
                "give the folder that `rayft train` printed",
            )
        )
    return found
