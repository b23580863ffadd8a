"""Law 9: a checkpoint is complete or invisible. Law 10: nothing is unpickled."""

import json
import random

import pytest
import torch

from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.checkpoint_reading import (
    Checkpoint,
    find_checkpoint,
    find_damage,
    on_disk,
    read_checkpoint,
)
from rayft.errors import CheckpointError, Problem, TrainingError
from rayft.storage.location import Location


def checkpoint(value: float = 1.0) -> Checkpoint:
    return Checkpoint(
        manifest={"position": {"phase": 0}, "metrics": {"validation/loss": 0.5}},
        tensors={
            "model": {"a": torch.full((64,), value), "b": torch.arange(5)},
            "optimizer": {"a|exp_avg": torch.zeros(64)},
        },
    )


def no_damage(name: str, problem: str) -> None:
    raise AssertionError(f"{name}: {problem}")


def file_of(folder: Location, name: str) -> Location:
    """Return a file of a checkpoint, which in an object store has a longer name."""
    (found,) = (child for child in folder.children() if child.endswith(name))
    return folder / found


def test_what_was_saved_is_read_back_to_the_bit(place: Location) -> None:
    CheckpointFolder(place).save("step-1", checkpoint(), best="step-1")

    read = read_checkpoint(place / "step-1")

    assert read.manifest["metrics"] == {"validation/loss": 0.5}
    for kind, tensors in checkpoint().tensors.items():
        assert read.tensors[kind].keys() == tensors.keys()
        assert all(torch.equal(read.tensors[kind][n], t) for n, t in tensors.items())


def test_the_newest_and_the_best_are_kept(place: Location) -> None:
    folder = CheckpointFolder(place, keep=2)

    for number in range(1, 6):
        folder.save(f"step-{number}", checkpoint(), best="step-2" if number > 1 else None)

    assert folder.names() == ["step-2", "step-4", "step-5"]
    assert folder.best() == "step-2"
    assert place.children() == ["best", "step-2", "step-4", "step-5"]


def test_any_flipped_bit_is_found(place: Location) -> None:
    CheckpointFolder(place).save("step-1", checkpoint(), best=None)
    draw = random.Random(0)
    names = ["model.safetensors", "optimizer.safetensors"]

    for _ in range(64 if place.is_local else 8):
        name = draw.choice(names)
        file = file_of(place / "step-1", name)
        good = file.read_bytes()
        bad = bytearray(good)
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        file.write_bytes(bytes(bad))
        assert find_damage(place / "step-1") == f"{name} does not match its hash"
        file.write_bytes(good)
    assert find_damage(place / "step-1") is None


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "manifest.json"])
@pytest.mark.parametrize("fault", ["missing", "empty", "cut"])
def test_a_missing_or_short_file_is_found(place: Location, file: str, fault: str) -> None:
    CheckpointFolder(place).save("step-1", checkpoint(), best=None)
    path = file_of(place / "step-1", file)
    if fault == "missing":
        path.delete()
    else:
        path.write_bytes(path.read_bytes()[: 0 if fault == "empty" else -7])

    assert find_damage(place / "step-1")
    with pytest.raises(CheckpointError):
        read_checkpoint(place / "step-1")


def test_the_newest_sound_checkpoint_is_taken_and_damaged_ones_are_put_aside(
    place: Location,
) -> None:
    folder = CheckpointFolder(place, keep=3)
    for number in (1, 2, 3):
        folder.save(f"step-{number}", checkpoint(number), best=None)
    for number in (2, 3):
        file_of(place / f"step-{number}", "model.safetensors").write_bytes(b"")
    told: list[str] = []

    assert folder.newest(on_damaged=lambda name, problem: told.append(name)) == "step-1"

    assert told == ["step-3", "step-2"]
    assert folder.names() == ["step-1"]
    assert len([name for name in place.children() if name.startswith(".damaged-step-")]) == 2


def test_nothing_but_damage_is_refused_and_never_trained_from_scratch(place: Location) -> None:
    folder = CheckpointFolder(place)
    folder.save("step-1", checkpoint(), best=None)
    (place / "step-1" / "manifest.json").write_bytes(b"{}")

    for _ in range(2):
        # Asked again, it must not take the empty folder for a run that has not begun.
        with pytest.raises(CheckpointError, match="all 1 checkpoints are damaged"):
            folder.newest(on_damaged=lambda name, problem: None)


def test_no_checkpoint_at_all_is_a_start_from_scratch(place: Location) -> None:
    assert CheckpointFolder(place / "none").newest(on_damaged=no_damage) is None


def test_what_a_replaced_writer_wrote_is_never_seen(place: Location) -> None:
    def fence() -> None:
        raise TrainingError(Problem("run", "replaced", "nothing"))

    with pytest.raises(TrainingError):
        CheckpointFolder(place, fence=fence).save("step-1", checkpoint(), best=None)

    assert CheckpointFolder(place).names() == []
    CheckpointFolder(place).clean()
    assert place.children() == []


def test_what_an_interrupted_writer_left_is_cleaned_and_was_never_seen(place: Location) -> None:
    folder = CheckpointFolder(place)
    half = ".tmp-step-9-abc" if place.is_local else "step-9"
    (place / half / "model.safetensors").write_bytes(b"half")

    assert folder.names() == []
    folder.clean()

    assert place.children() == []


def test_a_newer_format_is_refused(place: Location) -> None:
    CheckpointFolder(place).save("step-1", checkpoint(), best=None)
    file = place / "step-1" / "manifest.json"
    file.write_bytes(json.dumps({**json.loads(file.read_bytes()), "format": 99}).encode())

    with pytest.raises(CheckpointError, match="expected checkpoint format 1, found 99"):
        read_checkpoint(place / "step-1")


def test_a_run_means_its_best_checkpoint(place: Location) -> None:
    folder = CheckpointFolder(place / "checkpoints", keep=5)
    for number in (1, 2, 3):
        folder.save(f"step-{number}", checkpoint(), best="step-2" if number > 1 else None)

    assert find_checkpoint(place).name == "step-2"
    assert find_checkpoint(place / "checkpoints" / "step-3").name == "step-3"
    with pytest.raises(CheckpointError, match="found neither"):
        find_checkpoint(place / "nowhere")


def test_a_checkpoint_is_taken_to_the_disk_with_its_usual_names(place: Location) -> None:
    CheckpointFolder(place).save("step-1", checkpoint(), best=None)

    with on_disk(place / "step-1") as folder:
        names = {path.name for path in folder.iterdir()}

    assert names == {"manifest.json", "model.safetensors", "optimizer.safetensors"}


def test_a_commit_that_another_made_first_stands(place: Location) -> None:
    folder = CheckpointFolder(place)
    folder.save("step-1", checkpoint(1.0), best=None)

    folder.save("step-1", checkpoint(1.0), best=None)

    assert folder.newest(on_damaged=no_damage) == "step-1"


@pytest.mark.parametrize("name", ["../step-1/model.safetensors", "/etc/passwd"])
def test_a_manifest_cannot_name_files_elsewhere(place: Location, name: str) -> None:
    CheckpointFolder(place).save("step-1", checkpoint(), best=None)
    file = place / "step-1" / "manifest.json"
    manifest = json.loads(file.read_bytes())
    manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    file.write_bytes(json.dumps(manifest).encode())

    with pytest.raises(CheckpointError, match="is missing"):
        read_checkpoint(place / "step-1")
