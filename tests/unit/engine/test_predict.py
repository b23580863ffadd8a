"""Predicting a batch: the checkpoint's own arithmetic, and no row depends on another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayft.engine.checkpoint_reading import Checkpoint, find_checkpoint, read_checkpoint
from rayft.engine.predict import Predictor, evaluated_weights, softmax, trained_model
from rayft.errors import RayftError
from rayft.storage.location import Location
from tests.laws.harness import SIZE, make_spec
from tests.unit.runtime.predicting import CLASSES, make_checkpoint, random_model

IMAGES = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)


def saved(tmp_path: Path, **changes: Any) -> Checkpoint:
    run = make_checkpoint(Location(str(tmp_path)), **changes)
    return read_checkpoint(find_checkpoint(run))


def predictor(checkpoint: Checkpoint, batch_size: int = 8) -> Predictor:
    trained = trained_model(checkpoint)
    weights = evaluated_weights(trained, checkpoint)
    return Predictor(trained, weights, device=torch.device("cpu"), batch_size=batch_size)


def by_hand(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    with torch.no_grad():
        scores = model.eval()((pixels - mean[:, None, None]) / std[:, None, None])["label"]
    found: np.ndarray = torch.softmax(scores, 1).numpy()
    return found


def test_what_a_checkpoint_says_of_its_model(tmp_path: Path) -> None:
    crop = [{"kind": "random_resized_crop"}]

    trained = trained_model(saved(tmp_path, augment=crop, precision="bf16"))

    assert trained.classes == CLASSES
    assert (trained.image_size, trained.stored_size) == (SIZE, 37)
    assert trained.resize == "crop"
    assert trained.precision == "bf16"
    assert trained.mean == (0.4, 0.5, 0.6)


def test_probabilities_are_those_of_the_model(tmp_path: Path) -> None:
    found = predictor(saved(tmp_path)).probabilities(IMAGES)

    expected = by_hand(random_model(make_spec(), seed=1), IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert found.max(axis=1).min() > 0.34
    assert len(set(found.argmax(axis=1))) > 1


def test_averaged_weights_are_taken_where_there_are_any(tmp_path: Path) -> None:
    found = predictor(saved(tmp_path, average=True)).probabilities(IMAGES)

    averaged = random_model(make_spec(), seed=2)
    buffers = dict(random_model(make_spec(), seed=1).named_buffers())
    averaged.load_state_dict(buffers, strict=False)
    np.testing.assert_allclose(found, by_hand(averaged, IMAGES), atol=1e-5)


def test_no_row_depends_on_those_beside_it(tmp_path: Path) -> None:
    predict = predictor(saved(tmp_path)).probabilities
    whole = predict(IMAGES)

    for row in range(8):
        alone = np.full_like(IMAGES, 255)
        alone[3] = IMAGES[row]
        assert np.array_equal(predict(alone)[3], whole[row])


def test_precision_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    fp32 = predictor(saved(tmp_path / "fp32")).probabilities(IMAGES)
    bf16 = predictor(saved(tmp_path / "bf16", precision="bf16")).probabilities(IMAGES)

    assert not np.array_equal(fp32, bf16)
    np.testing.assert_allclose(fp32, bf16, atol=0.1)


def test_a_model_that_diverged_is_refused(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path)
    checkpoint.tensors["model"]["heads.label.output.bias"][0] = float("nan")  # type: ignore[index]

    with pytest.raises(RayftError, match="not finite"):
        predictor(checkpoint).probabilities(IMAGES)


def test_softmax_of_huge_scores_does_not_overflow() -> None:
    found = softmax(np.array([[1e4, -1e4, 1e4], [-3e38, -3e38, -3e38]], np.float32))

    np.testing.assert_allclose(found, [[0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]])
