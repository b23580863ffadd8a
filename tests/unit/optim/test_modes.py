"""Law 4: frozen means frozen. Law 5: every parameter in exactly one group."""

import pytest
import torch

from rayft.models.facts import model_facts
from rayft.models.model import FineTuneModel, make_model
from rayft.optim.modes import set_trainable, set_training_modes
from rayft.plan.ledger import Ledger, make_ledger
from rayft.spec.model import ModelSpec
from rayft.spec.training import PhaseSpec

SPECS = {
    kind: ModelSpec.model_validate(
        {
            "backbone": {"kind": kind, "name": name, "weights": "none"},
            "heads": {"label": {"kind": "classification", "dropout": 0.5}},
        }
    )
    for kind, name in (("torchvision", "mobilenet_v2"), ("timm", "tf_efficientnet_lite0"))
}


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return SPECS[request.param]


def frozen_but(spec: ModelSpec, train: list[str]) -> tuple[FineTuneModel, Ledger]:
    facts = model_facts(spec, num_classes=3, image_size=32)
    phase = PhaseSpec.model_validate({"name": "p", "train": train, "for": "1 steps", "lr": 0.1})
    ledger = make_ledger(phase, facts, weight_decay=0.0, where="phases.0")
    model = make_model(spec, num_classes=3, seed=0)
    set_trainable(model, ledger)
    return model, ledger


@pytest.mark.parametrize("batch_norm", ["pretrained", "local"])
def test_steps_leave_frozen_weights_and_statistics_bit_equal(
    spec: ModelSpec, batch_norm: str
) -> None:
    model, ledger = frozen_but(spec, ["heads", "last 2"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

    set_training_modes(model, ledger, batch_norm=batch_norm)
    for seed in range(3):
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) + 3
        model(images)["label"].square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    trained = {rule.name for rule in ledger.groups if rule.trains}
    for name, value in model.state_dict().items():
        group = (
            "heads.label"
            if name.startswith("heads.")
            else model.backbone.group_of(name.removeprefix("backbone.net."))
        )
        if group not in trained:
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_outputs_of_a_frozen_model_do_not_depend_on_batch_mates(spec: ModelSpec) -> None:
    model, ledger = frozen_but(spec, ["heads"])
    set_training_modes(model, ledger, batch_norm="pretrained")
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    others = images.clone()
    others[1:] = others[1:] * 5 + 2

    with torch.no_grad():
        features, with_others = model.backbone(images)[0], model.backbone(others)[0]

    assert torch.equal(features, with_others)


def test_batch_norm_keeps_pretrained_statistics_unless_told_otherwise(spec: ModelSpec) -> None:
    model, ledger = frozen_but(spec, ["all"])
    set_training_modes(model, ledger, batch_norm="pretrained")
    kept = {n: b.clone() for n, b in model.named_buffers()}

    model(torch.randn(4, 3, 32, 32) + 3)

    assert all(torch.equal(b, kept[n]) for n, b in model.named_buffers())
    set_training_modes(model, ledger, batch_norm="local")
    model(torch.randn(4, 3, 32, 32) + 3)
    assert not all(torch.equal(b, kept[n]) for n, b in model.named_buffers())


def test_a_ledger_of_another_model_is_refused() -> None:
    _, ledger = frozen_but(SPECS["timm"], ["all"])
    model = make_model(SPECS["torchvision"], num_classes=3, seed=0)

    with pytest.raises(RuntimeError, match="disagree about parameters"):
        set_trainable(model, ledger)
