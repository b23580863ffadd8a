"""What this machine really does in a second: a short probe of preparing and of the model."""

import io
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from PIL import Image

from rayft.models.model import FineTuneModel, make_model
from rayft.objectives.objective import make_objective
from rayft.objectives.targets import Targets
from rayft.optim.modes import set_trainable, set_training_modes
from rayft.plan.facts import ClusterFacts, DataFacts, ModelFacts, Paces, Speeds
from rayft.plan.ledger import make_ledger
from rayft.plan.prefix import frozen_groups
from rayft.plan.resources import ResourcePlan
from rayft.spec.data import ResizeMode
from rayft.spec.run import RunSpec
from rayft.store.manifest import StoredAs
from rayft.transforms.augment import make_augmentation
from rayft.transforms.decode_batch import decode_batch

_PREPARED_ROWS = 64
_DECODED_ROWS = 16
_MULTIPLY_ADDS = 1e9
"""Of one probed forward pass: some ten milliseconds on a CPU core."""
_MOST_ROWS = 16
_ROUNDS = 2
_GPU_MULTIPLY_ADDS_PER_S = 1e14
_PASSES = 3
"""A training step costs about three forward passes."""


def measure_speeds(
    spec: RunSpec,
    model: ModelFacts,
    cluster: ClusterFacts,
    *,
    resources: ResourcePlan,
    data: DataFacts,
    stored_size: int,
) -> Speeds:
    """Measure rows per second of preparing, of a training step, and of both sides of each cut.

    The model is probed only where the workers compute on CPUs, in fp32 and, where those have
    instructions for it, in bf16: which of them is faster depends on the network and its input size.
    For accelerators the pace is an estimate from above.
    """
    prepare = _prepare_rows_per_s(spec, model, stored_size=stored_size, stored_as=data.stored_as)
    if resources.device != "cpu":
        flops = sum(group.flops_per_row for group in (*model.groups, *model.heads))
        pace = _GPU_MULTIPLY_ADDS_PER_S / max(1, flops * _PASSES)
        return Speeds(prepare_rows_per_s=prepare, fp32_rows_per_s=pace, bf16_rows_per_s=None)
    probed = _Step(spec, model, num_classes=len(data.classes))
    before = torch.get_num_threads()
    torch.set_num_threads(resources.threads_per_worker)
    try:
        wanted = {"auto": (False, True), "fp32": (False,), "bf16": (True,)}[spec.precision]
        found = probed.rows_per_s(wanted if cluster.cpu_bf16 else wanted[:1])
        paces = probed.paces()
    finally:
        torch.set_num_threads(before)
    return Speeds(
        prepare_rows_per_s=prepare,
        fp32_rows_per_s=found.get(False, found.get(True, 0.0)),
        bf16_rows_per_s=found.get(True),
        paces=paces,
    )


def _prepare_rows_per_s(
    spec: RunSpec, model: ModelFacts, *, stored_size: int, stored_as: StoredAs
) -> float:
    images = np.zeros((_PREPARED_ROWS, stored_size, stored_size, model.channels), np.uint8)
    ids = np.arange(_PREPARED_ROWS, dtype=np.int64)
    # What the device augments is only gathered, which is a copy of the rows.
    specs = spec.augment if spec.augment_on == "host" else ()
    augment = make_augmentation(specs, image_size=model.image_size, seed=spec.seed)
    changed = partial(augment, row_ids=ids, epoch=0) if specs else np.asarray
    seconds = _best_of(lambda: changed(images.copy())) / _PREPARED_ROWS
    if stored_as == "encoded":
        seconds += _decode_seconds(stored_size, spec.data.resize, model.channels)
    return 1 / seconds


def _decode_seconds(size: int, resize: ResizeMode, channels: int) -> float:
    """Return the seconds that one thread takes for a picture with about a photo's detail."""
    coarse = np.random.Generator(np.random.Philox(0)).integers(0, 256, (32, 32, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG")
    files = [file.getvalue()] * _DECODED_ROWS
    decode = partial(decode_batch, files, size=size, resize=resize, threads=1, channels=channels)
    return _best_of(decode) / _DECODED_ROWS


class _Step:
    """Forward and backward on a few random rows: of the last phase, and of the parts of each."""

    def __init__(self, spec: RunSpec, facts: ModelFacts, *, num_classes: int) -> None:
        phase = spec.phases[-1]
        self._spec, self._facts = spec, facts
        where = f"phases.{len(spec.phases) - 1}"
        ledger = make_ledger(phase, facts, weight_decay=0.0, where=where)
        flops = sum(group.flops_per_row for group in (*facts.groups, *facts.heads))
        rows = int(min(_MOST_ROWS, max(1, _MULTIPLY_ADDS // max(1, flops))))
        size = phase.image_size or facts.image_size
        shape = (max(2, rows), facts.channels, size, size)
        self._images = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
        self._labels = torch.zeros(shape[0], dtype=torch.long)
        self._weights = torch.ones(shape[0])
        self._model: FineTuneModel = make_model(
            spec.model,
            num_classes=num_classes,
            seed=0,
            image_size=facts.image_size,
            channels=facts.channels,
        )
        self._model.to(memory_format=torch.channels_last)
        self._objective = make_objective(spec.model, class_weights=dict.fromkeys(spec.model.heads))
        set_trainable(self._model, ledger)
        set_training_modes(self._model, ledger, batch_norm="pretrained")

    def rows_per_s(self, precisions: tuple[bool, ...]) -> dict[bool, float]:
        """Return the pace with bf16 off and on, measured in turn so that noise hits both."""
        found = dict.fromkeys(precisions, 0.0)
        for number in range(1 + _ROUNDS):
            for bf16 in precisions:
                started = time.perf_counter()
                self._run(bf16=bf16)
                pace = len(self._labels) / (time.perf_counter() - started)
                # The first round only warms up.
                found[bf16] = max(found[bf16], pace) if number else 0.0
        return found

    def _run(self, *, bf16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            scores = self._model(self._images)
        self._objective(scores, {"label": Targets(labels=self._labels)}, self._weights).backward()

    def paces(self) -> dict[int, Paces]:
        """Return the paces below and above the cut of each phase that has one, by its cut."""
        model, facts = self._model, self._facts
        found: dict[int, Paces] = {}
        for index, phase in enumerate(self._spec.phases):
            ledger = make_ledger(phase, facts, weight_decay=0.0, where=f"phases.{index}")
            cut = frozen_groups(ledger, len(facts.groups))
            if not cut or cut in found or not model.backbone.can_be_cut(cut):
                continue
            set_trainable(model, ledger)
            set_training_modes(model, ledger, batch_norm="pretrained")
            images, rows = self._at_whole_size(), len(self._labels)
            with torch.no_grad():
                made = model.backbone.between(images, 0, cut)
                below = _best_of(partial(model.backbone.between, images, 0, cut))
            above = _best_of(partial(self._backward, made, cut))
            found[cut] = Paces(below=rows / below, above=rows / above)
        return found

    def _at_whole_size(self) -> torch.Tensor:
        size = self._facts.image_size
        images = torch.zeros(len(self._labels), self._facts.channels, size, size)
        return images.contiguous(memory_format=torch.channels_last)

    def _backward(self, inputs: torch.Tensor, cut: int) -> None:
        scores = self._model(inputs, cut)
        self._objective(scores, {"label": Targets(labels=self._labels)}, self._weights).backward()


def _best_of(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest of three calls: the one that was disturbed least."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return max(best, 1e-9)
