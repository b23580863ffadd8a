"""Files of weights are verified, unwrapped, and never unpickled."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rayft.spec.model import (
    FileWeights,
)
from tests.unit.models.building import refusal, resolve, sha256_of


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_training_checkpoints_are_unwrapped_and_said(
    wrapper: str, official: dict[str, Tensor], tmp_path: Path
) -> None:
    inner = {f"module.{name}": tensor for name, tensor in official.items()}
    torch.save({wrapper: inner, "epoch": 3}, tmp_path / "m.pt")

    loaded = resolve(FileWeights(file="m.pt"), tmp_path)

    assert loaded.source == f"file m.pt; its entry `{wrapper}`; `module.` removed from its names"
    assert torch.equal(loaded.state["features.0.0.weight"], official["features.0.0.weight"])


def test_every_tensor_is_a_numpy_view_away(official: dict[str, Tensor], tmp_path: Path) -> None:
    odd = {name: t.bfloat16() if t.is_floating_point() else t for name, t in official.items()}
    odd["features.0.0.weight"] = torch.zeros(64, 3, 3, 3)[:32]
    torch.save(odd, tmp_path / "m.pth")

    loaded = resolve(FileWeights(file="m.pth"), tmp_path)

    for tensor in loaded.state.values():
        assert tensor.is_contiguous()
        assert tensor.numpy().ctypes.data == tensor.data_ptr()
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    assert "short floats widened to float32" in loaded.source


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def save_torch(bomb: Bomb, path: Path) -> None:
    torch.save({"w": torch.zeros(1), "x": bomb}, path)


def save_pickle(bomb: Bomb, path: Path) -> None:
    path.write_bytes(pickle.dumps(bomb))


@pytest.mark.parametrize(
    ("save", "run"),
    [
        (save_torch, lambda path: torch.load(path, weights_only=False)),
        (save_pickle, lambda path: pickle.loads(path.read_bytes())),
    ],
)
def test_a_pickle_bomb_is_refused_and_does_not_go_off(
    save: Callable[[Bomb, Path], None], run: Callable[[Path], object], tmp_path: Path
) -> None:
    target = tmp_path / "fired"
    save(Bomb(target), tmp_path / "m.pth")

    message = refusal(FileWeights(file="m.pth"), tmp_path)

    assert "does not hold tensors alone" in message
    assert not target.exists()
    run(tmp_path / "m.pth")  # the bomb is live
    assert target.exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.pth", b"", "damaged"),
        ("m.pth", b"PK\x03\x04 cut off", "damaged"),
        ("m.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}", "no safetensors file"),
        ("m.bin", b"x", "expected .safetensors, .pth or .pt"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)

    assert said in refusal(FileWeights(file=name), tmp_path)


@pytest.mark.parametrize("content", [{}, {"lr": 0.1}, [torch.zeros(1)], {3: torch.zeros(1)}])
def test_a_file_without_named_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "m.pth")

    assert "holds no state dict" in refusal(FileWeights(file="m.pth"), tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(FileWeights(file="m.pth"), tmp_path)


def test_a_wrong_hash_is_refused_before_the_file_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(b"not a state dict")

    message = refusal(FileWeights(file="m.pth", sha256="0" * 64), tmp_path)

    assert f"expected {'0' * 64}" in message
    assert sha256_of(tmp_path / "m.pth") in message
