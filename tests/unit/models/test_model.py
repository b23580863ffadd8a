"""The fine-tune model: names, heads and initial weights."""

import pytest
import torch
import torch.nn.functional as F

from rayft.errors import ModelError
from rayft.models.heads import copy_rows, make_head
from rayft.models.model import make_model
from rayft.spec.model import ClassificationHead, ModelSpec, TorchvisionBackbone

HEAD = ClassificationHead(kind="classification", hidden=(16, 8), dropout=0.5)


def spec_with(label: str = "label", head: ClassificationHead = HEAD) -> ModelSpec:
    backbone = TorchvisionBackbone(kind="torchvision", name="resnet18", weights="none")
    return ModelSpec(backbone=backbone, heads={label: head})


def test_scores_come_by_label_column() -> None:
    model = make_model(spec_with(), num_classes=5, seed=0).eval()

    scores = model(torch.zeros(2, 3, 32, 32))

    assert set(scores) == {"label"}
    assert scores["label"].shape == (2, 5)


def test_parameters_have_official_names_behind_the_prefix() -> None:
    model = make_model(spec_with(), num_classes=5, seed=0)

    names = [name for name, _ in model.named_parameters()]
    assert names[0] == "backbone.net.conv1.weight"
    assert all(name.startswith(("backbone.net.", "heads.label.")) for name in names)
    assert [name for name in names if name.startswith("heads.")] == [
        f"heads.label.{layer}.{kind}"
        for layer in ("hidden.0", "hidden.1", "output")
        for kind in ("weight", "bias")
    ]


def test_initial_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make_model(spec_with(), num_classes=5, seed=7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)

    torch.manual_seed(2)
    second = make_model(spec_with(), num_classes=5, seed=7).state_dict()
    third = make_model(spec_with(), num_classes=5, seed=8).state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["heads.label.output.weight"], third["heads.label.output.weight"])
    conv = "backbone.net.conv1.weight"
    assert not torch.equal(first[conv], third[conv])


def test_dropout_stands_before_every_linear_layer() -> None:
    head = make_head(HEAD, feature_dim=4, num_classes=3)
    dropped = []
    head.dropout.register_forward_hook(lambda _m, args, _o: dropped.append(args[0].shape[1]))

    head(torch.ones(2, 4))

    assert dropped == [4, 16, 8]


@pytest.mark.parametrize("label", ["a.b", "keys"])
def test_a_label_that_torch_cannot_take_is_refused(label: str) -> None:
    with pytest.raises(ModelError, match="cannot name a head"):
        make_model(spec_with(label), num_classes=2, seed=0)


def test_head_rows_are_copied_by_class_name() -> None:
    old = make_head(HEAD, feature_dim=4, num_classes=3)
    new = make_head(HEAD, feature_dim=4, num_classes=2)
    untouched = new.output.weight[1].clone()

    count = copy_rows(new, old.state_dict(), known=("ant", "bee", "cat"), classes=("cat", "dog"))

    assert count == 1
    assert torch.equal(new.output.weight[0], old.output.weight[2])
    assert torch.equal(new.output.bias[0], old.output.bias[2])
    assert torch.equal(new.output.weight[1], untouched)
    assert torch.equal(new.hidden[1].weight, old.hidden[1].weight)


def test_a_head_with_other_hidden_layers_is_left_new() -> None:
    old = make_head(HEAD, feature_dim=4, num_classes=2)
    narrow = ClassificationHead(kind="classification", hidden=(16, 4))
    new = make_head(narrow, feature_dim=4, num_classes=2)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}

    assert copy_rows(new, old.state_dict(), known=("a", "b"), classes=("a", "b")) is None
    assert all(torch.equal(before[name], tensor) for name, tensor in new.state_dict().items())


def test_a_head_normalises_and_activates_as_it_is_told() -> None:
    spec = ClassificationHead(
        kind="classification", hidden=(16, 8), activation="gelu", norm="layer", dropout=0.5
    )
    head = make_head(spec, feature_dim=12, num_classes=3).eval()
    features = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))

    found = head(features)

    expected = features
    for layer in head.hidden:
        expected = F.layer_norm(expected, expected.shape[1:])
        expected = F.gelu(F.linear(expected, layer.weight, layer.bias))
    expected = F.layer_norm(expected, (8,))
    expected = F.linear(expected, head.output.weight, head.output.bias)
    assert torch.allclose(found, expected, atol=1e-6)
    assert [tuple(norm.weight.shape) for norm in head.norms] == [(12,), (16,), (8,)]
