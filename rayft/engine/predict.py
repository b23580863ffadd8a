"""From a checkpoint and decoded images to the probability of every class.

Everything comes from the checkpoint: classes, preprocessing, precision. A batch always has the
same shape, so a row's probabilities depend on nothing beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.engine.build import load_evaluated_weights
from rayft.engine.checkpoint_reading import Checkpoint
from rayft.engine.device import Device
from rayft.engine.prefix import FrozenPrefix
from rayft.errors import Problem, RayftError
from rayft.models.model import FineTuneModel, make_model
from rayft.plan.prefix import PrefixCut
from rayft.plan.storage import stored_size
from rayft.spec.data import ResizeMode
from rayft.spec.load import spec_from_data
from rayft.spec.run import RunSpec

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """What a checkpoint says of how to predict with it; all but the weights."""

    spec: RunSpec
    classes: tuple[str, ...]
    image_size: int
    """Height and width in pixels that the model sees."""
    stored_size: int
    """Height and width to which an image is resized first; its centre is then cut out."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: Literal["fp32", "bf16"]
    prefix: PrefixCut | None
    """Where what the lowest groups make is rounded, as in training; None where it is not."""

    @property
    def channels(self) -> int:
        """Channels of the images that the model sees."""
        return self.spec.data.channels

    @property
    def resize(self) -> ResizeMode:
        """How an image becomes square."""
        return self.spec.data.resize


def trained_model(checkpoint: Checkpoint) -> TrainedModel:
    """Return what a checkpoint says of its model."""
    manifest = checkpoint.manifest
    data, classes = manifest["spec"], manifest["classes"]
    assert isinstance(data, dict)
    assert isinstance(classes, dict)
    spec = spec_from_data(data)
    size = int(str(manifest["image_size"]))
    return TrainedModel(
        spec=spec,
        classes=tuple(_texts(classes["label"])),
        image_size=size,
        stored_size=stored_size(spec, image_size=size),
        mean=tuple(map(float, _texts(manifest["mean"]))),
        std=tuple(map(float, _texts(manifest["std"]))),
        precision="bf16" if manifest["precision"] == "bf16" else "fp32",
        prefix=_prefix(manifest.get("prefix")),
    )


def _prefix(said: object) -> PrefixCut | None:
    if said is None:
        return None
    assert isinstance(said, dict)
    shape = said["shape"]
    assert isinstance(shape, list)
    # Batches have one size here in any case, whatever it is.
    return PrefixCut(cut=said["cut"], rows=0, dtype=said["dtype"], shape=tuple(shape))


def _texts(values: object) -> list[str]:
    assert isinstance(values, list)
    return [str(value) for value in values]


def evaluated_weights(trained: TrainedModel, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the weights that evaluation uses, averages in their place, as the model names them."""
    model = _build(trained)
    load_evaluated_weights(model, checkpoint.tensors)
    return dict(model.state_dict())


def _build(trained: TrainedModel) -> FineTuneModel:
    # Every weight is loaded afterwards, so the seed does not matter.
    return make_model(
        trained.spec.model,
        num_classes=len(trained.classes),
        seed=0,
        image_size=trained.image_size,
        channels=trained.channels,
    )


@final
class Predictor:
    """A model in evaluation mode on its device.

    Args:
        trained: the model.
        weights: as `evaluated_weights` gives them.
        device: where it computes.
        batch_size: rows of every batch.
    """

    def __init__(
        self, trained: TrainedModel, weights: Weights, *, device: torch.device, batch_size: int
    ) -> None:
        self.batch_size = batch_size
        self.image_size = trained.image_size
        self._device = Device(
            device,
            mean=trained.mean,
            std=trained.std,
            precision=trained.precision,
            memory_format=trained.spec.memory_format,
            test_time=trained.spec.test_time,
        )
        model = _build(trained)
        model.load_state_dict(weights)
        self._device.place(model)
        self._model = model.eval().requires_grad_(False)
        self._prefix: FrozenPrefix | None = None
        self._cut = 0
        if trained.prefix is not None:
            cut = replace(trained.prefix, rows=batch_size)
            self._prefix, self._cut = FrozenPrefix(model.backbone, cut, self._device), cut.cut

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probability of every class.

        May be called from several threads at once where the device is the CPU.

        Args:
            images: [batch_size, H, W, C]; slots that hold no row may hold anything.

        Returns:
            [batch_size, C]; each row adds up to 1.

        Raises:
            RayftError: the device has too little memory, or a score is not finite.
        """
        try:
            scores = self._scores(images)
        except torch.OutOfMemoryError as error:
            what = f"a batch of {len(images)} rows does not fit into the GPU's memory"
            raise RayftError(Problem("--batch-size", what, "choose a smaller one")) from error
        if not np.isfinite(scores).all():
            what = "the model gives scores that are not finite: it has diverged"
            raise RayftError(Problem("checkpoint", what, "use an earlier checkpoint"))
        return softmax(scores)

    @torch.inference_mode()
    def _scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        inputs = self._device.images(images)
        if self._prefix is not None:
            inputs = self._prefix.of_images(inputs)
        scores = self._device.scores(self._model, inputs, self._cut)["label"]
        found: NDArray[np.float32] = scores.float().cpu().numpy()
        return found


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probabilities [n, C] of scores [n, C].

    numpy adds up each row by itself and on one thread: no row beside it can change a bit.
    """
    wide = scores.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
