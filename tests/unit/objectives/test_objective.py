import pytest
import torch
import torch.nn.functional as F

from rayft.objectives.objective import make_objective
from rayft.objectives.targets import Targets
from rayft.spec.model import ModelSpec


def objective(
    label_smoothing: float = 0.0, class_weights: tuple[float, ...] | None = None
) -> torch.nn.Module:
    return make_objective(
        ModelSpec.model_validate(
            {
                "backbone": {"kind": "torchvision", "name": "resnet18"},
                "heads": {"label": {"kind": "classification", "label_smoothing": label_smoothing}},
            }
        ),
        class_weights={"label": class_weights},
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_shards_of_any_size_add_up_to_the_mean_of_the_batch(label_smoothing: float) -> None:
    scores = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 5
    loss = objective(label_smoothing)

    parts = [
        loss({"label": scores[a:b]}, {"label": Targets(labels=labels[a:b])}, torch.ones(b - a))
        for a, b in ((0, 1), (1, 8), (8, 12))
    ]

    expected = F.cross_entropy(scores, labels, label_smoothing=label_smoothing)
    assert sum(parts) / 12 == pytest.approx(float(expected), rel=1e-6)


def test_a_row_of_weight_0_does_not_count_even_where_it_is_not_finite() -> None:
    scores = torch.zeros(2, 3)
    scores[1] = float("nan")
    scores.requires_grad_()

    targets = {"label": Targets(labels=torch.tensor([0, 1]))}
    loss = objective()({"label": scores}, targets, torch.tensor([1.0, 0.0]))
    loss.backward()

    assert float(loss.detach()) == pytest.approx(float(torch.log(torch.tensor(3.0))))
    assert torch.isfinite(scores.grad[0]).all()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_classes_weigh_what_they_are_told(label_smoothing: float) -> None:
    weights = (3.0, 1.0, 0.5, 1.0, 2.0)
    scores = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 5

    found = objective(label_smoothing, weights)(
        {"label": scores}, {"label": Targets(labels=labels)}, torch.ones(12)
    )

    expected = F.cross_entropy(
        scores,
        labels,
        weight=torch.tensor(weights),
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_two_labels_are_the_loss_of_their_distribution() -> None:
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    labels, others = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 3, 0, 2, 2])
    shares = torch.tensor([1.0, 0.5, 0.25, 0.0, 0.9, 0.3])

    found = objective(0.1)(
        {"label": scores},
        {"label": Targets(labels=labels, partner_labels=others, shares=shares)},
        torch.ones(6),
    )

    distribution = F.one_hot(labels, 4) * shares[:, None]
    distribution = distribution + F.one_hot(others, 4) * (1 - shares)[:, None]
    expected = F.cross_entropy(scores, distribution, label_smoothing=0.1, reduction="sum")
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
