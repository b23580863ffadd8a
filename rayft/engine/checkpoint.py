"""Checkpoints: complete or invisible, and enough by themselves.

A checkpoint is a folder `step-N` with `model.safetensors`, `optimizer.safetensors`, where asked
for `average.safetensors`, and `manifest.json`, which names every file's size and hash, the
position, the spec, the classes, the preprocessing and the memory of the policies. It is written
beside its place, synced, and renamed; nothing in it is pickled.
"""

import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rayft.engine.checkpoint_path import (
    BEST,
    MANIFEST,
    best_name,
    checkpoint_at,
    checkpoint_names,
)
from rayft.engine.ports import Json
from rayft.errors import CheckpointError, Problem
from rayft.storage.commit import commit_directory, sha256_of, write_file_atomically

FORMAT = 1
"""Version of the layout; a newer one is refused, never half-read."""
_DAMAGED = ".damaged-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds."""

    manifest: Mapping[str, Json]
    """Everything but tensors."""
    tensors: Mapping[str, Mapping[str, Tensor]]
    """Tensors by file: `model`, `optimizer`, `average`."""


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        path: the folder `checkpoints` of a run.
        keep: newest checkpoints kept, beside the best one.
        fence: raises where this process may no longer write, because a later attempt runs.
    """

    def __init__(
        self, path: Path, *, keep: int = 2, fence: Callable[[], None] | None = None
    ) -> None:
        self.path = path
        self._keep = keep
        self._fence = fence or (lambda: None)

    def save(self, name: str, checkpoint: Checkpoint, *, best: str | None) -> None:
        """Write a checkpoint, name the best one, and delete those no longer kept."""
        temporary = self.path / f".tmp-{name}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir(parents=True)
        try:
            _write(temporary, checkpoint)
            self._fence()
            commit_directory(temporary, self.path / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.set_best(best)
        self._delete_old(best)

    def names(self) -> list[str]:
        """Return the names of the complete checkpoints, oldest first."""
        return checkpoint_names(self.path)

    def best(self) -> str | None:
        """Return the name of the best checkpoint, or None before there is one."""
        return best_name(self.path)

    def set_best(self, name: str | None) -> None:
        """Name the best checkpoint."""
        if name is not None and name != self.best():
            write_file_atomically(self.path / BEST, name.encode())

    def newest(self, *, on_damaged: Callable[[str, str], None]) -> str | None:
        """Return the newest checkpoint that verifies, or None where there is none at all.

        Damaged ones are renamed to `.damaged-*` and reported.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged. Starting from scratch
                instead would hide the loss.
        """
        names = self.names()
        for name in reversed(names):
            problem = find_damage(self.path / name)
            if problem is None:
                return name
            on_damaged(name, problem)
            (self.path / name).rename(self.path / f"{_DAMAGED}{name}-{uuid.uuid4().hex[:8]}")
        damaged = list(self.path.glob(f"{_DAMAGED}*")) if self.path.is_dir() else []
        if damaged:
            raise CheckpointError(
                Problem(
                    str(self.path),
                    f"all {len(damaged)} checkpoints are damaged and were put aside as {_DAMAGED}*",
                    "restore the folder from a copy, or delete the run's folder to start anew",
                )
            )
        return None

    def _delete_old(self, best: str | None) -> None:
        for name in self.names()[: -self._keep]:
            if name != best:
                # Renamed first: a reader must never meet a half-deleted checkpoint.
                trash = self.path / f".trash-{name}-{uuid.uuid4().hex[:8]}"
                (self.path / name).rename(trash)
                shutil.rmtree(trash, ignore_errors=True)

    def clean(self) -> None:
        """Delete what interrupted writers left behind."""
        for pattern in (".tmp-*", ".trash-*"):
            for left in self.path.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    files: dict[str, Json] = {}
    for kind, tensors in checkpoint.tensors.items():
        file = folder / f"{kind}.safetensors"
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)
        files[file.name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    manifest = {**checkpoint.manifest, "format": FORMAT, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))


def read_manifest(folder: Path) -> dict[str, Json]:
    """Return a checkpoint's manifest.

    Raises:
        CheckpointError: there is none, or it is of a newer format.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text())
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


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, or None where every hash is right."""
    try:
        files = read_manifest(folder)["files"]
    except (CheckpointError, KeyError) as error:
        return f"unreadable manifest ({error.__class__.__name__})"
    if not isinstance(files, dict):
        return "manifest without a list of files"
    for name, entry in files.items():
        file = folder / name
        if not isinstance(entry, dict) or not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != entry["bytes"]:
            return f"{name} has {file.stat().st_size} bytes instead of {entry['bytes']}"
        if sha256_of(file) != entry["sha256"]:
            return f"{name} does not match its hash"
    return None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    manifest = read_manifest(folder)
    damage = find_damage(folder)
    if damage is not None:
        raise CheckpointError(
            Problem(str(folder), f"the checkpoint is damaged: {damage}", "use another checkpoint")
        )
    files = manifest["files"]
    assert isinstance(files, dict)
    try:
        tensors = {name.removesuffix(".safetensors"): load_file(folder / name) for name in files}
    except SafetensorError as error:
        raise CheckpointError(
            Problem(str(folder), f"unreadable tensors: {error}", "use another checkpoint")
        ) from error
    return Checkpoint(manifest=manifest, tensors=tensors)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that a user means: itself, or the best of a run.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    found = checkpoint_at(path)
    if found is None:
        raise CheckpointError(
            Problem(
                str(path),
                "expected a run's folder or one of its checkpoints, found neither",
                "give the folder that `rayft train` printed",
            )
        )
    return found
