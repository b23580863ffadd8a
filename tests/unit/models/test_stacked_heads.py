"""A stack of heads gives what each head gives, and what is dropped of each is the same."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rayft.models.heads import ScoreHead, make_head
from rayft.models.stacked_heads import HeadGroup, StackedHeads
from rayft.spec.model import ClassificationHead

LAYERS: list[dict[str, Any]] = [
    {},
    {"norm": "layer"},
    {"hidden": [6]},
    {"hidden": [6, 4], "norm": "layer", "activation": "gelu"},
]


def heads(count: int, **layers: Any) -> list[ScoreHead]:
    torch.manual_seed(0)
    spec = ClassificationHead(kind="classification", **layers)
    made = [make_head(spec, feature_dim=5, num_classes=3) for _ in range(count)]
    for head in made:
        for norm in head.norms:
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.bias)
    return made


def features(seed: int = 1) -> Tensor:
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_scores_and_gradients_are_those_of_each_head(
    layers: dict[str, Any], dropout: float
) -> None:
    own = heads(4, **layers, dropout=dropout)
    stack = StackedHeads(own)
    groups = [
        HeadGroup(features=features(1), size=3, dropout=dropout, stream=11),
        HeadGroup(features=features(2), size=1, dropout=dropout, stream=12),
    ]

    scores = stack(groups)
    scores.square().sum().backward()

    for row, head in enumerate(own):
        torch.manual_seed(11 if row < 3 else 12)
        alone = head(features(1 if row < 3 else 2))
        alone.square().sum().backward()
        torch.testing.assert_close(scores[row], alone)
        for name, param in head.named_parameters():
            gradient = stack.params[name].grad
            assert gradient is not None
            torch.testing.assert_close(gradient[row], param.grad, rtol=1e-5, atol=1e-5)


def test_lent_heads_hold_what_the_stack_holds() -> None:
    own = heads(2, hidden=[6])
    stack = StackedHeads(own)
    before = [param.detach().clone() for param in own[1].parameters()]

    stack.lend(own)
    assert all(map(torch.equal, before, own[1].parameters()))
    with torch.no_grad():
        stack.params["output.weight"].add_(1)

    assert torch.equal(own[1].output.weight, stack.params["output.weight"][1])
    assert len(stack) == 2
