"""Everything that can be refused is refused here, before anything is started or written."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from rayft.data.prepare import PreparedDataset, estimate_dataset, prepare_dataset
from rayft.data.statistics import channel_statistics
from rayft.engine.build import new_model
from rayft.engine.checkpoint_reading import find_checkpoint, on_disk
from rayft.metrics import check_metric
from rayft.models.facts import model_facts
from rayft.models.other_sizes import check_image_sizes
from rayft.models.weights import LoadedWeights, load_weights, resolve_weights
from rayft.plan.facts import ClusterFacts, DataFacts, ModelFacts, Speeds
from rayft.plan.resources import plan_resources
from rayft.plan.run_plan import RunPlan, make_plan
from rayft.plan.storage import stored_size
from rayft.runtime.compiler import check_compiler
from rayft.runtime.facts import cluster_facts, own_facts
from rayft.runtime.probe import measure_speeds
from rayft.spec.data import ComputedNormalization, GivenNormalization
from rayft.spec.model import BackboneSpec, ModelSpec, RunWeights
from rayft.spec.run import RunSpec
from rayft.storage.check import check_storage
from rayft.storage.location import Location
from rayft.storage.roots import storage_at, store_root_of
from rayft.store.dataset import open_dataset

OnRows = Callable[[int, int], None]
"""Called with the rows done and the rows in all."""


def unheard(done: int, total: int) -> None:
    """Take the number of rows done and tell nobody."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run reads and writes."""

    base_dir: Path
    """Folder that relative paths in the spec start from: the current one."""
    storage_path: Location

    @property
    def store_root(self) -> Location:
        """Folder of the row stores, shared by all runs of a `storage_path`."""
        return store_root_of(self.storage_path)


def places_of(spec: RunSpec) -> Places:
    """Return where a run reads and writes, as absolute paths.

    Ray's workers change their current folder, so nothing relative may reach them.
    """
    base_dir = Path.cwd()
    storage = storage_at(spec.storage_path, base_dir=base_dir, where="storage_path")
    return Places(base_dir, storage)


def plan_before(spec: RunSpec, places: Places, *, cluster: ClusterFacts | None = None) -> RunPlan:
    """Plan a run before its dataset is prepared; counts of shares are then expectations.

    Args:
        spec: the spec.
        places: where it reads and writes.
        cluster: what it runs on, where that is not what `facts_for` says.

    Raises:
        RequestError: the request cannot be honoured.
    """
    size = input_size(spec)
    data = estimate_dataset(
        spec.data,
        base_dir=places.base_dir,
        store_root=places.store_root,
        stored_size=stored_size(spec, image_size=size),
    )
    cluster = cluster or facts_for(spec, places)
    return _plan(spec, data, facts_of_model(spec, data), cluster)


def facts_for(spec: RunSpec, places: Places) -> ClusterFacts:
    """Return what there is for a run: without workers, what the calling process has."""
    ask = cluster_facts if spec.scaling.num_workers else own_facts
    return ask(places.storage_path)


def check(spec: RunSpec, places: Places, *, cluster: ClusterFacts | None = None) -> RunPlan:
    """Refuse what cannot work; return the plan so far. Arguments are those of `plan_before`.

    Raises:
        RequestError: the request cannot be honoured.
    """
    check_storage(places.storage_path, setting="storage_path")
    return plan_before(spec, places, cluster=cluster)


def resolve(spec: RunSpec, places: Places, plan: RunPlan) -> LoadedWeights | None:
    """Read the pretrained weights and try them on the model, so that workers find no surprise.

    Raises:
        ModelError: they cannot be had, or do not fit.
    """
    backbone = spec.model.backbone
    if isinstance(backbone.weights, RunWeights):
        weights = _resolve_run(backbone, backbone.weights, places, plan.model)
    else:
        size = plan.model.image_size
        weights = resolve_weights(
            backbone,
            base_dir=places.base_dir,
            image_size=size,
            channels=plan.model.channels,
        )
    if weights is not None:
        model = new_model(plan)
        load_weights(model, weights, classes=plan.data.classes)
    return weights


def _resolve_run(
    backbone: BackboneSpec, weights: RunWeights, places: Places, model: ModelFacts
) -> LoadedWeights | None:
    where = "model.backbone.weights.checkpoint"
    named = Location.parse(weights.checkpoint, base_dir=places.base_dir, where=where)
    # A run means its best checkpoint.
    found = find_checkpoint(named)
    with on_disk(found) as folder:
        here = backbone.model_copy(update={"weights": RunWeights(checkpoint=str(folder))})
        loaded = resolve_weights(
            here,
            base_dir=places.base_dir,
            image_size=model.image_size,
            channels=model.channels,
        )
    if loaded is None:
        return None
    # Where it lay for reading says nothing.
    return replace(loaded, source="; ".join((f"checkpoint {found}", *loaded.notes)))


def prepare_rows(
    spec: RunSpec, places: Places, *, use_ray: bool, on_rows: OnRows
) -> PreparedDataset:
    """Build the row stores that are missing.

    Raises:
        DataError: a source breaks the contract.
    """
    size = input_size(spec)
    return prepare_dataset(
        spec.data,
        base_dir=places.base_dir,
        store_root=places.store_root,
        image_size=size,
        stored_size=stored_size(spec, image_size=size),
        use_ray=use_ray,
        on_progress=on_rows,
    )


def plan_prepared(
    spec: RunSpec,
    places: Places,
    prepared: PreparedDataset,
    *,
    speeds: Speeds | None = None,
    cluster: ClusterFacts | None = None,
) -> RunPlan:
    """Plan a run on its prepared dataset: every number is now exact.

    Args:
        spec: the spec.
        places: where it reads and writes.
        prepared: its dataset.
        speeds: those of an earlier plan, so that nothing is measured twice.
        cluster: what it runs on, where it has been asked already, or is not what `facts_for` says.
    """
    model = facts_of_model(spec, prepared.facts)
    if isinstance(spec.data.normalize, ComputedNormalization):
        mean, std = channel_statistics(open_dataset(prepared.ref))
        model = replace(model, mean=mean, std=std)
    cluster = cluster or facts_for(spec, places)
    return _plan(spec, prepared.facts, model, cluster, speeds)


def input_size(spec: RunSpec) -> int:
    """Return the height and width in pixels that the backbone will see.

    Raises:
        ModelError: there is no such backbone, or it cannot take images of the size asked for.
    """
    # The classes do not matter for it.
    return _known_facts(spec, 2).image_size


def _known_facts(spec: RunSpec, num_classes: int) -> ModelFacts:
    """Return facts about a model, measured once: trials of a sweep ask for the same ones."""
    model = spec.model.model_dump_json(by_alias=True)
    return _measured_facts(model, num_classes, spec.data.image_size, spec.data.channels)


@lru_cache(maxsize=64)
def _measured_facts(
    model: str, num_classes: int, image_size: int | Literal["auto"], channels: int
) -> ModelFacts:
    return model_facts(
        ModelSpec.model_validate_json(model),
        num_classes=num_classes,
        image_size=image_size,
        channels=channels,
    )


def facts_of_model(spec: RunSpec, data: DataFacts) -> ModelFacts:
    """Return what is known of a model without its weights, and before its rows are looked at."""
    facts = _known_facts(spec, len(data.classes))
    given = spec.data.normalize
    if isinstance(given, GivenNormalization):
        return replace(facts, mean=given.mean, std=given.std)
    return facts


def _plan(
    spec: RunSpec,
    data: DataFacts,
    model: ModelFacts,
    cluster: ClusterFacts,
    speeds: Speeds | None = None,
) -> RunPlan:
    _check_metrics(spec, data)
    sizes = {
        f"phases.{index}.image_size": phase.image_size
        for index, phase in enumerate(spec.phases)
        if phase.image_size is not None
    }
    check_image_sizes(spec.model, image_size=model.image_size, others=sizes)
    resources = plan_resources(spec, cluster)
    check_compiler(spec, resources.device)
    speeds = speeds or measure_speeds(
        spec,
        model,
        cluster,
        resources=resources,
        data=data,
        stored_size=stored_size(spec, image_size=model.image_size),
    )
    return make_plan(spec, model=model, data=data, cluster=cluster, speeds=speeds)


def _check_metrics(spec: RunSpec, data: DataFacts) -> None:
    named = {"best_metric": spec.best_metric}
    if spec.early_stopping:
        named["early_stopping.metric"] = spec.early_stopping.metric
    for index, phase in enumerate(spec.phases):
        if phase.until:
            named[f"phases.{index}.until.plateau"] = phase.until.plateau
    for setting, metric in named.items():
        if metric:
            check_metric(metric, setting=setting, num_classes=len(data.classes))
