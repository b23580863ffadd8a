"""Every family of backbones keeps the same promises, in evaluation and in training.

One member of each family, random weights, images as small as it takes. Nothing is left out: a
network that is no plain chain would be tested without stages, but all of these are.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rayft.models.backbone import Backbone, make_backbone
from rayft.models.facts import model_facts
from rayft.models.heads import make_head
from rayft.models.layout import is_leaf, leaf_names, tensor_names
from rayft.models.matching import match_by_name
from rayft.models.model import FineTuneModel
from rayft.models.prefix import run_prefix
from rayft.optim.modes import set_trainable, set_training_modes
from rayft.optim.optimizer import make_optimizer
from rayft.plan.facts import ModelFacts
from rayft.plan.ledger import Ledger, make_ledger
from rayft.spec.model import ClassificationHead, ModelSpec
from rayft.spec.training import SGD, PhaseSpec
from tests.unit.models.families import (
    MEMBERS,
    ONE_OF_EACH,
    Member,
    load_official,
    make_official,
    official_features,
    random_images,
)
from tests.unit.models.running import plan_for, prepare_few, run_spec, train_here

HEAD = ClassificationHead(kind="classification")


class Trial:
    """A member with its official network, our backbone of the same weights, and its facts."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.images = random_images(2, member.size)
        official = make_official(member)
        with torch.no_grad():
            self.expected = official_features(member, official, self.images)
        self.backbone: Backbone = load_official(member, official)
        self.spec = ModelSpec(backbone=member.spec, heads={"label": HEAD})

    @property
    def groups(self) -> tuple[str, ...]:
        return self.backbone.depth_groups

    def facts(self) -> ModelFacts:
        return model_facts(self.spec, num_classes=3, image_size=self.member.size)


@pytest.fixture(scope="module", params=MEMBERS, ids=str)
def trial(request: pytest.FixtureRequest) -> Trial:
    return Trial(request.param)


def test_features_are_the_official_ones(trial: Trial) -> None:
    with torch.no_grad():
        features = trial.backbone(trial.images)

    assert features.shape == (2, trial.backbone.feature_dim)
    assert torch.isfinite(features).all()
    assert features.std() > 0
    if "squeezenet" in trial.member.name:
        # Averaged here by the network's own pooling, in the test by a sum.
        torch.testing.assert_close(features, trial.expected, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(features, trial.expected)


@torch.no_grad()
def test_a_row_has_the_same_bits_in_any_place_of_a_batch(trial: Trial) -> None:
    # What the frozen layers make can then be kept, and found again in other batches.
    rows = 32 if trial.member.size < 200 else 4
    images = random_images(rows, trial.member.size)
    places = torch.arange(rows).roll(rows // 2 + 1)

    made, again = (
        run_prefix(
            trial.backbone,
            each.contiguous(memory_format=torch.channels_last),
            cut=len(trial.groups),
            rows=rows,
        )
        for each in (images, images[places])
    )

    assert torch.equal(again, made[places])


def test_every_tensor_and_leaf_is_in_exactly_one_group(trial: Trial) -> None:
    backbone = trial.backbone
    names = set(tensor_names(backbone.net))
    leaves = [
        id(leaf)
        for group in trial.groups
        for module in backbone.modules_of(group)
        for leaf in module.modules()
        if is_leaf(leaf)
    ]

    assert {backbone.group_of(name) for name in names} == set(trial.groups)
    assert len(leaves) == len(set(leaves))
    assert set(leaves) == {id(backbone.net.get_submodule(n)) for n in leaf_names(backbone.net)}


def test_groups_run_in_their_order_in_the_networks_own_forward(trial: Trial) -> None:
    backbone, ran = trial.backbone, list[int]()
    handles = [
        leaf.register_forward_hook(lambda _m, _a, _o, place=place: ran.append(place))
        for place, group in enumerate(trial.groups)
        for module in backbone.modules_of(group)
        for leaf in module.modules()
        if is_leaf(leaf)
    ]

    with torch.no_grad():
        backbone.net(trial.images)
    for handle in handles:
        handle.remove()

    assert ran == sorted(ran)
    assert set(ran) == set(range(len(trial.groups)))


def test_stages_are_the_networks_own_forward_cut_into_pieces(trial: Trial) -> None:
    stages = trial.backbone.stages
    assert stages is not None
    assert tuple(stage.name for stage in stages) == trial.groups

    with torch.no_grad():
        passed = trial.images
        for stage in stages:
            before = passed.clone()
            output = stage.forward(passed)
            assert type(output) is Tensor
            assert torch.equal(passed, before), f"{stage.name} writes into its input"
            passed = output

        assert torch.equal(passed, trial.backbone.net(trial.images))


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_see_what_the_weights_know(trial: Trial, channels: int) -> None:
    """Built without weights, for speed: its first layers are tried in the trial's own network."""
    member, net = trial.member, trial.backbone.net
    with torch.device("meta"):
        changed = make_backbone(member.spec, image_size=member.size, channels=channels)
    state = match_by_name(changed, net.state_dict()).state
    new = {name: _layer_of(changed, name, state) for name in changed.layout.input_layers}
    as_rgb, images = _same_images(trial.images, channels)

    with torch.no_grad():
        expected = trial.backbone(as_rgb)
        with _replaced(net, new):
            found = trial.backbone(images)

    assert new.keys() == {*trial.backbone.layout.input_layers} != set()
    assert {n for n, t in net.state_dict().items() if state[n].shape != t.shape} == {
        f"{name}.weight" for name in new
    }
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def _same_images(images: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return images for the RGB network, and such that are the same to the changed one."""
    if channels == 1:
        return images[:, :1].expand(-1, 3, -1, -1), images[:, :1]
    return images, torch.cat([images, images[:, :1].flip(-1)], dim=1)


def _layer_of(backbone: Backbone, name: str, state: Mapping[str, Tensor]) -> nn.Module:
    layer = backbone.net.get_submodule(name).to_empty(device="cpu").eval()
    layer.load_state_dict({key: state[f"{name}.{key}"] for key in layer.state_dict()})
    return layer


@contextmanager
def _replaced(net: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[None]:
    official = {name: net.get_submodule(name) for name in layers}
    try:
        for name, layer in layers.items():
            net.set_submodule(name, layer)
        yield
    finally:
        for name, layer in official.items():
            net.set_submodule(name, layer)


def test_frozen_means_frozen_wherever_the_backbone_is_cut(trial: Trial) -> None:
    """A step for every freeze state: the head alone, then one group more each time."""
    facts = trial.facts()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        head = make_head(HEAD, feature_dim=trial.backbone.feature_dim, num_classes=3)
    model = FineTuneModel(trial.backbone, nn.ModuleDict({"label": head}))
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    for first in reversed(range(len(trial.groups) + 1)):
        ledger = _ledger(facts, trial.groups[first:])
        # `local` lets batch norms of trained groups move, so that those of frozen ones could.
        set_trainable(model, ledger)
        set_training_modes(model, ledger, batch_norm="local")
        small = {n: t.clone() for n, t in model.state_dict().items() if t.numel() < 10**5}
        images = random_images(2, trial.member.size, seed=first)

        _step(model, ledger, images)

        trained = {rule.name for rule in ledger.groups if rule.trains}
        # What is frozen now was never trained before.
        assert not _moved(model, initial) & ({*trial.groups} - trained)
        assert _moved(model, small) == trained
        _check_frozen_prefix(model, ledger, images)


def _ledger(facts: ModelFacts, trained: tuple[str, ...]) -> Ledger:
    phase = PhaseSpec.model_validate(
        {"name": "one", "train": [*trained, "heads"], "for": "1 steps", "lr": 1e-4}
    )
    return make_ledger(phase, facts, weight_decay=0.0, where="phases.0")


def _step(model: FineTuneModel, ledger: Ledger, images: Tensor) -> None:
    optimizer = make_optimizer(SGD(kind="sgd"), model, ledger, anchors={})
    scores = model(images)["label"]
    # Cross entropy has no gradient where random features make a network all too sure.
    direction = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 0.5, 2.0]])
    ((scores * direction).sum() / scores.detach().abs().max()).backward()
    # Data-parallel training waits for the gradient of each.
    assert all((param.grad is not None) == param.requires_grad for param in model.parameters())
    optimizer.step()


def _moved(model: FineTuneModel, before: dict[str, Tensor]) -> set[str]:
    """Return the groups of which a tensor is no longer what it was."""
    state = model.state_dict()
    return {_owner(model, n) for n, t in before.items() if not torch.equal(t, state[n])}


def _owner(model: FineTuneModel, name: str) -> str:
    if name.startswith("heads."):
        return "heads.label"
    return model.backbone.group_of(name.removeprefix("backbone.net."))


def _check_frozen_prefix(model: FineTuneModel, ledger: Ledger, images: Tensor) -> None:
    """A row's activations at the cut depend neither on the rows beside it nor on chance."""
    stages = model.backbone.stages
    assert stages is not None
    frozen = [stage for stage in stages if not ledger.trains(stage.name)]
    other = images.clone()
    other[1] = images[1].flip(-1) + 1
    with torch.no_grad():
        for stage in frozen:
            images, other = stage.forward(images), stage.forward(other)

    assert torch.equal(images[0], other[0])
    assert not torch.equal(images[1], other[1])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is gone after the test: some checkpoints have half a gigabyte."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("member", ONE_OF_EACH, ids=str)
def test_a_stopped_and_resumed_run_ends_like_a_whole_one(member: Member, folder: Path) -> None:
    """Two steps with one group in the middle training, and evaluation of the checkpoint."""
    with torch.device("meta"):
        groups = make_backbone(member.spec).depth_groups
    trained = groups[len(groups) // 2]
    spec = run_spec(member, train=["heads", trained])
    prepared = prepare_few(spec, folder / "rows", member.size)
    plan = plan_for(spec, prepared)

    whole = train_here(plan, prepared, folder / "whole")
    stopped = train_here(plan, prepared, folder / "parts", stop_after=1)
    resumed = train_here(plan, prepared, folder / "parts")

    assert whole is not None
    assert stopped is None
    assert resumed is not None
    assert resumed.digest == whole.digest
    # The loss of the epoch's steps is telemetry: a resumed run knows those after the stop.
    assert {**resumed.metrics, "train/loss": 0} == {**whole.metrics, "train/loss": 0}
    assert {"validation/loss", "test/loss"} <= whole.metrics.keys()
    assert all(math.isfinite(value) for value in whole.metrics.values())
