import pytest
import torch
import torch.nn.functional as F

from rayft.objectives.objective import make_objective
from rayft.spec.model import ModelSpec


def objective(label_smoothing: float = 0.0) -> torch.nn.Module:
    return make_objective(
        ModelSpec.model_validate(
            {
                "backbone": {"kind": "torchvision", "name": "resnet18"},
                "heads": {"label": {"kind": "classification", "label_smoothing": label_smoothing}},
            }
        )
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_shards_of_any_size_add_up_to_the_mean_of_the_batch(label_smoothing: float) -> None:
    scores = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 5
    loss = objective(label_smoothing)

    parts = [
        loss({"label": scores[a:b]}, {"label": labels[a:b]}, torch.ones(b - a))
        for a, b in ((0, 1), (1, 8), (8, 12))
    ]

    expected = F.cross_entropy(scores, labels, label_smoothing=label_smoothing)
    assert sum(parts) / 12 == pytest.approx(float(expected), rel=1e-6)


def test_a_row_of_weight_0_gives_neither_loss_nor_gradient_even_where_it_is_not_finite() -> None:
    scores = torch.zeros(2, 3)
    scores[1] = float("nan")
    scores.requires_grad_()

    loss = objective()({"label": scores}, {"label": torch.tensor([0, 1])}, torch.tensor([1.0, 0.0]))
    loss.backward()

    assert float(loss.detach()) == pytest.approx(float(torch.log(torch.tensor(3.0))))
    assert torch.isfinite(scores.grad[0]).all()
