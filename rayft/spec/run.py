"""The whole of one run, as the user asks for it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.augment import AugmentSpec, needs_colours, without_effect_on_grey
from rayft.spec.augment_motion import RandomResizedCrop
from rayft.spec.base import Positive, Spec
from rayft.spec.cache import CacheSpec
from rayft.spec.data import DataSpec, LocalCacheSpec
from rayft.spec.duration import LengthText
from rayft.spec.mix import MixSpec
from rayft.spec.model import ModelSpec
from rayft.spec.sources import TorchvisionSource
from rayft.spec.test_time import TestTimeSpec
from rayft.spec.training import (
    AdamW,
    CheckpointSpec,
    CosineSchedule,
    EarlyStoppingSpec,
    EmaSpec,
    OptimizerSpec,
    PhaseSpec,
    ScheduleSpec,
    check_phases,
)


class ScalingSpec(Spec):
    """Workers and what each of them gets; the names are Ray's."""

    num_workers: int = Field(default=1, ge=0, le=4096)
    """Training workers. 0 trains in the calling process, without Ray: for debugging."""
    use_gpu: bool | Literal["auto"] = "auto"
    """One GPU for each worker; `auto` takes them where the cluster has enough."""
    resources_per_worker: dict[str, Positive] = {}
    """What each worker reserves, such as `{CPU: 4}`. A worker computes with as many threads as it
    has whole CPUs. Left out: the machine's CPUs shared equally, at most 8."""
    max_failures: int = Field(default=3, ge=-1)
    """Restarts after a lost worker or node; -1 is Ray's word for no limit."""
    wait_s: Positive = 300.0
    """Longest wait for nodes that an autoscaler may still bring."""


class MeanReduction(Spec):
    """All-reduce of DDP: the fastest, equal over numbers of workers within rounding."""

    kind: Literal["mean"] = "mean"


class ExactReduction(Spec):
    """A fixed number of virtual shards, summed by a fixed tree.

    Bit-identical results for any number of workers, at the price of smaller batches and one more
    copy of the gradients.
    """

    kind: Literal["exact"]
    shards: int = Field(default=4, ge=1, le=1024)
    """Virtual shards of each step: a power of two, and a multiple of `num_workers`."""

    @model_validator(mode="after")
    def _power_of_two(self) -> Self:
        if self.shards & (self.shards - 1):
            raise ValueError(
                f"shards is {self.shards}, and the summation tree needs a power of two; "
                "use 2, 4, 8 or 16"
            )
        return self


ReductionSpec = Annotated[MeanReduction | ExactReduction, Field(discriminator="kind")]


class RunSpec(Spec):
    """One fine-tuning run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    """Name of the run: its folder under `storage_path`. The same name and spec goes on where it
    stopped."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of row order, augmentation, dropout and new weights."""
    storage_path: str = "~/rayft_results"
    """Folder for runs and prepared data: a path that every node sees, or an address in an object
    store, such as `s3://bucket/folder` or `gs://bucket/folder`."""
    data: DataSpec
    """Where rows come from and how they are split."""
    augment: tuple[AugmentSpec, ...] = ()
    """Random changes to training images, in this order."""
    mix: tuple[MixSpec, ...] = ()
    """Training images put together from two rows, after `augment`; where several kinds are listed,
    each takes its share of the rows."""
    augment_on: Literal["host", "device"] = "host"
    """Where `augment` and `mix` change images: on the processors that make batches, or on each
    worker's device, to which images then travel as they are stored. Same bytes either way."""
    model: ModelSpec
    """Backbone and heads."""
    phases: tuple[PhaseSpec, ...] = Field(min_length=1)
    """Stages of the run, in this order."""
    total: LengthText | None = None
    """Length of the whole run, where phases take shares of it (`for: 30%`)."""
    optimizer: OptimizerSpec = AdamW(kind="adamw")
    """How parameters move."""
    schedule: ScheduleSpec = CosineSchedule(kind="cosine")
    """How the learning rate moves inside each phase."""
    gradient_clip: Positive | None = 1.0
    """Largest norm of the gradient of the whole batch; null does not clip."""
    global_batch_size: int = Field(default=64, ge=1)
    """Rows of one optimizer step over all workers. The learning rate belongs to it, so it is never
    changed by the number of workers."""
    rows_per_device: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Most rows one worker holds at once; the rest of its share is accumulated. `auto` follows from
    the memory when the run begins, and stays; a number may also be given to a run that goes on.
    Another one changes last bits, and what dropout draws; with `reduction: exact` no weight."""
    batch_norm: Literal["pretrained", "local", "sync"] = "pretrained"
    """Statistics of batch norm in groups that train: keep the pretrained ones, follow each
    worker's batch, or follow the global batch (GPUs only). The last two make the result depend on
    how rows fall to workers."""
    ema: EmaSpec | None = None
    """Average of the weights."""
    early_stopping: EarlyStoppingSpec | None = None
    """End a phase early."""
    test_time: TestTimeSpec | None = None
    """Views of each row in evaluation and prediction."""
    best_metric: str | None = None
    """Metric that chooses the best checkpoint; left out: `validation/accuracy`, or the last
    checkpoint where there is no validation split."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """When checkpoints are written."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of forward and backward; weights are always fp32. `auto` is bf16 where the device
    computes in it faster than in fp32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device of every worker."""
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    """Layout of image tensors in memory."""
    torch_compile: bool = False
    """Compile the model with `torch.compile`; slow to start, faster afterwards."""
    ingest: Literal["auto", "in_process", "ray_data"] = "auto"
    """Where batches are made: in the worker's process, or in Ray Data tasks. Same bytes either
    way."""
    reduction: ReductionSpec = MeanReduction()
    """How gradients are summed over workers."""
    cache: CacheSpec = CacheSpec()
    """What is kept of the layers that do not train."""
    scaling: ScalingSpec = ScalingSpec()
    """Workers and their resources."""

    @model_validator(mode="before")
    @classmethod
    def _shorthands(cls, raw: object) -> object:
        """Let `reduction: exact` stand for `reduction: {kind: exact}`; likewise `normalize`."""
        if not isinstance(raw, dict):
            return raw
        raw = dict(raw)
        if isinstance(raw.get("reduction"), str):
            raw["reduction"] = {"kind": raw["reduction"]}
        data = raw.get("data")
        if isinstance(data, dict) and isinstance(data.get("normalize"), str):
            raw["data"] = {**data, "normalize": {"kind": data["normalize"]}}
        return raw

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [phase.name for phase in self.phases]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two phases are named {twice[0]!r}; give each its own name")
        check_phases(self.phases, self.total, has_validation=self.data.validation is not None)
        return self

    @model_validator(mode="after")
    def _mixes_share_the_rows(self) -> Self:
        total = sum(mix.probability for mix in self.mix)
        if total > 1 + 1e-9:
            raise ValueError(
                f"the probabilities of mix add up to {total:g}, and each is a share of the rows; "
                "make them add up to 1 at most"
            )
        return self

    @model_validator(mode="after")
    def _the_device_has_something_to_change(self) -> Self:
        if self.augment_on == "device" and not (self.augment or self.mix):
            raise ValueError(
                "augment_on has no effect where there is nothing to augment or mix; remove it, or "
                "add an operation to augment"
            )
        return self

    @model_validator(mode="after")
    def _decay_has_somewhere_to_go(self) -> Self:
        if self.optimizer.decay_towards == "zero":
            return self
        if not self.optimizer.weight_decay:
            raise ValueError(
                "optimizer.decay_towards has no effect while optimizer.weight_decay is 0; "
                "remove it, or set weight_decay"
            )
        if self.model.backbone.weights == "none":
            raise ValueError(
                "optimizer.decay_towards is pretrained, and model.backbone.weights is none; "
                "remove it, or choose pretrained weights"
            )
        return self

    @model_validator(mode="after")
    def _views_are_random(self) -> Self:
        if self.cache.views != "auto" and not self.augment:
            raise ValueError(
                "cache.views has no effect without augment, where every image has one view; "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _colours_need_colour(self) -> Self:
        channels = self.data.channels
        for place, operation in enumerate(self.augment):
            if name := needs_colours(operation, channels=channels):
                raise ValueError(
                    f"augment.{place} asks for {name}, which works on red, green and blue, and "
                    f"data.channels is {channels}; remove it"
                )
        source = self.data.train
        if not (isinstance(source, TorchvisionSource) and source.name == "FashionMNIST"):
            return self
        for place, operation in enumerate(self.augment):
            if name := without_effect_on_grey(operation):
                raise ValueError(
                    f"augment.{place}: {name} has no effect on grey images, as those of "
                    f"{source.name} are; remove it"
                )
        return self

    @model_validator(mode="after")
    def _refuse_settings_without_effect(self) -> Self:
        if self.data.validation is None:
            for setting, metric in (
                ("best_metric", self.best_metric),
                ("early_stopping", self.early_stopping and self.early_stopping.metric),
            ):
                if metric:
                    raise ValueError(
                        f"{setting} has no effect without validation rows; "
                        "set data.validation or remove it"
                    )
        crops = any(isinstance(op, RandomResizedCrop) for op in self.augment)
        if isinstance(self.data.stored_size, int) and not crops:
            raise ValueError(
                "data.stored_size has no effect without random_resized_crop; remove it, or add "
                "{kind: random_resized_crop} to augment"
            )
        windowed = self.data.order == "windowed"
        remote = self.storage_path.startswith(("s3://", "gs://"))
        if self.data.local_cache != LocalCacheSpec() and not (remote or windowed):
            raise ValueError(
                "data.local_cache has no effect while storage_path is a folder; remove it, or set "
                "storage_path to an object store"
            )
        if set(self.model.heads) != {"label"}:
            raise ValueError(
                f"model.heads names {', '.join(sorted(self.model.heads)) or 'none'}, and the label "
                "column of the sources is known as 'label'; name the one head 'label'"
            )
        return self
