"""Checkpoints: complete or invisible, and enough by themselves.

A checkpoint is a folder `step-N` with `model.safetensors`, `optimizer.safetensors`, where asked
for `average.safetensors`, and `manifest.json`, which names every file's size and hash, the
position, the spec, the classes, the preprocessing and the memory of the policies. Nothing in it is
pickled. On a local disk it is written beside its place, synced, and renamed. In an object store its
files are put under names that carry their hash, and the manifest, put last and only where there is
none, makes them a checkpoint.
"""

import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file

from rayft.engine.checkpoint_path import BEST, MANIFEST, best_name, checkpoint_names
from rayft.engine.checkpoint_reading import FORMAT, Checkpoint, find_damage
from rayft.engine.ports import Json
from rayft.errors import CheckpointError, Problem
from rayft.storage.commit import commit_directory, sha256_of
from rayft.storage.location import Location

_DAMAGED = ".damaged-"


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        place: the folder `checkpoints` of a run.
        keep: newest checkpoints kept, beside the best one.
        fence: raises where this process may no longer write, because a later attempt runs.
    """

    def __init__(
        self, place: Location, *, keep: int = 2, fence: Callable[[], None] | None = None
    ) -> None:
        self.place = place
        self._keep = keep
        self._fence = fence or (lambda: None)

    def save(self, name: str, checkpoint: Checkpoint, *, best: str | None) -> None:
        """Write a checkpoint, name the best one, and delete those no longer kept."""
        self._commit(name, lambda folder: _write(folder, checkpoint))
        self.set_best(best)
        self._delete_old(best)

    def adopt(self, name: str, files: Path, manifest: Mapping[str, Json]) -> None:
        """Take over the tensors of another run's checkpoint, under a manifest of this run's.

        On a disk both then share the bytes, where the file system can: neither ever changes them.

        Args:
            name: the checkpoint's name here; nothing is done where it is there already.
            files: folder on this machine with the files that the manifest names, verified.
            manifest: what it holds beside tensors, with the sizes and hashes of the files.
        """
        if name not in self.names():
            self._commit(name, lambda folder: _share(files, folder, manifest))

    def _commit(self, name: str, write: Callable[[Path], dict[str, Json]]) -> None:
        """Make a checkpoint visible once it is whole; `write` fills a folder and says with what."""
        with self._temporary(name) as temporary:
            manifest = write(temporary)
            if not self.place.is_local:
                _upload(temporary, self.place / name, manifest)
            self._fence()
            if self.place.is_local:
                commit_directory(temporary, (self.place / name).path)
            else:
                # Where it is there already, it is this one: a position has one state.
                (self.place / name / MANIFEST).create(_as_text(manifest))

    @contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        if not self.place.is_local:
            with tempfile.TemporaryDirectory(prefix="rayft-checkpoint-") as folder:
                yield Path(folder)
            return
        temporary = self.place.path / f".tmp-{name}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir(parents=True)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def names(self) -> list[str]:
        """Return the names of the complete checkpoints, oldest first."""
        return checkpoint_names(self.place)

    def best(self) -> str | None:
        """Return the name of the best checkpoint, or None before there is one."""
        return best_name(self.place)

    def set_best(self, name: str | None) -> None:
        """Name the best checkpoint."""
        if name is not None and name != self.best():
            (self.place / BEST).write_bytes(name.encode())

    def newest(self, *, on_damaged: Callable[[str, str], None]) -> str | None:
        """Return the newest checkpoint that verifies, or None where there is none at all.

        Damaged ones are put aside as `.damaged-*` and reported.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged. Starting from scratch
                instead would hide the loss.
        """
        for name in reversed(self.names()):
            problem = find_damage(self.place / name)
            if problem is None:
                return name
            on_damaged(name, problem)
            self._move(name, f"{_DAMAGED}{name}-{uuid.uuid4().hex[:8]}")
        damaged = [name for name in self.place.children() if name.startswith(_DAMAGED)]
        if damaged:
            raise CheckpointError(
                Problem(
                    str(self.place),
                    f"all {len(damaged)} checkpoints are damaged and were put aside as {_DAMAGED}*",
                    "restore the folder from a copy, or delete the run's folder to start anew",
                )
            )
        return None

    def _move(self, name: str, aside: str) -> None:
        """Take a checkpoint out of sight in one step: a reader must never meet half of one."""
        old, new = self.place / name, self.place / aside
        if self.place.is_local:
            old.path.rename(new.path)
            return
        # Objects cannot be renamed. Without its manifest the rest is no checkpoint.
        (new / MANIFEST).write_bytes((old / MANIFEST).read_bytes())
        (old / MANIFEST).delete()

    def _delete_old(self, best: str | None) -> None:
        for name in self.names()[: -self._keep]:
            if name != best:
                trash = f".trash-{name}-{uuid.uuid4().hex[:8]}"
                self._move(name, trash)
                (self.place / trash).delete_tree()
                (self.place / name).delete_tree()

    def clean(self) -> None:
        """Delete what interrupted writers left behind."""
        whole = self.names()
        for name in self.place.children():
            half = name.startswith("step-") and name not in whole
            if half or name.startswith((".tmp-", ".trash-")):
                (self.place / name).delete_tree()


def _write(folder: Path, checkpoint: Checkpoint) -> dict[str, Json]:
    files: dict[str, Json] = {}
    for kind, tensors in checkpoint.tensors.items():
        file = folder / f"{kind}.safetensors"
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)
        files[file.name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    manifest: dict[str, Json] = {**checkpoint.manifest, "format": FORMAT, "files": files}
    (folder / MANIFEST).write_bytes(_as_text(manifest))
    return manifest


def _share(source: Path, folder: Path, manifest: Mapping[str, Json]) -> dict[str, Json]:
    listed = manifest["files"]
    assert isinstance(listed, dict)
    files: dict[str, Json] = {}
    for name, entry in listed.items():
        assert isinstance(entry, dict)
        try:
            (folder / name).hardlink_to(source / name)
        except OSError:
            # Another file system, or one without links.
            shutil.copyfile(source / name, folder / name)
        files[name] = {"bytes": entry["bytes"], "sha256": entry["sha256"]}
    made: dict[str, Json] = {**manifest, "files": files}
    (folder / MANIFEST).write_bytes(_as_text(made))
    return made


def _as_text(manifest: Mapping[str, Json]) -> bytes:
    return json.dumps(manifest, indent=1, sort_keys=True).encode()


def _upload(folder: Path, place: Location, manifest: dict[str, Json]) -> None:
    """Put the files, and note in the manifest under which names."""
    files = manifest["files"]
    assert isinstance(files, dict)
    for name, entry in files.items():
        assert isinstance(entry, dict)
        # A writer that was replaced may still be at it: it must not write over another's file.
        stored = f"{str(entry['sha256'])[:16]}-{name}"
        entry["object"] = stored
        (place / stored).upload(folder / name)
