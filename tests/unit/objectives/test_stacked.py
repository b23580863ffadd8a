"""Losses of members in one pass are those that each member's own term gives."""

import pytest
import torch

from rayft.objectives.objective import CrossEntropyTerm
from rayft.objectives.stacked import StackedCrossEntropy
from rayft.objectives.targets import Targets


@pytest.mark.parametrize("class_weights", [None, (0.5, 2.0, 1.0)])
@pytest.mark.parametrize("smoothing", [(0.0, 0.0), (0.1, 0.0), (0.3, 0.1)])
def test_each_loss_and_gradient_is_that_of_the_members_own_term(
    class_weights: tuple[float, ...] | None, smoothing: tuple[float, float]
) -> None:
    scores = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([[0, 1, 2, 0, 1, 2], [2, 2, 1, 0, 0, 1]])
    weights = torch.tensor([1.0, 1, 1, 1, 1, 0])
    terms = [CrossEntropyTerm(each, class_weights) for each in smoothing]

    losses = StackedCrossEntropy(terms)(scores, labels, weights)
    losses.sum().backward()

    for row, term in enumerate(terms):
        own = scores.detach()[row].requires_grad_()
        loss = term(own, Targets(labels=labels[row]), weights)
        loss.backward()
        torch.testing.assert_close(losses[row], loss)
        assert scores.grad is not None
        torch.testing.assert_close(scores.grad[row], own.grad)


def test_a_row_of_weight_0_or_a_member_that_is_not_finite_harms_no_other() -> None:
    scores = torch.zeros(2, 2, 3)
    scores[0, 1] = scores[1, 0] = float("nan")
    scores.requires_grad_()

    terms = [CrossEntropyTerm(0.1), CrossEntropyTerm(0.1)]
    losses = StackedCrossEntropy(terms)(
        scores, torch.tensor([[0, 1], [0, 1]]), torch.tensor([1.0, 0.0])
    )
    losses.sum().backward()

    assert float(losses[0].detach()) == pytest.approx(float(torch.log(torch.tensor(3.0))))
    assert torch.isnan(losses[1])
    assert scores.grad is not None
    assert torch.isfinite(scores.grad[0, 0]).all()
