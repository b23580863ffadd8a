"""Put together runs that train fused: one backbone for all, a head for each."""

from collections.abc import Sequence

import torch
from torch import nn

from rayft.engine.build import new_model, run_of_model
from rayft.engine.run import Ports, Run
from rayft.errors import CheckpointError
from rayft.models.heads import make_head
from rayft.models.model import FineTuneModel
from rayft.models.weights import LoadedWeights, load_weights
from rayft.plan.run_plan import RunPlan


def make_fused_runs(
    plans: Sequence[RunPlan],
    *,
    data_fingerprint: str,
    weights: LoadedWeights | None,
    device: torch.device,
    ports: Sequence[Ports],
) -> list[Run | CheckpointError]:
    """Build runs that have one backbone between them; each goes on from its own newest checkpoint.

    Args:
        plans: of equal keys (`rayft.plan.fusing`).
        data_fingerprint: of the rows that all are trained on.
        weights: pretrained weights; None where they begin from random ones, or all go on.
        device: where they are trained.
        ports: of each run.

    Returns:
        The runs, in their order; in place of one that cannot go on, the reason: all of its
        checkpoints are damaged, or the data changed.
    """
    torch.set_num_threads(plans[0].resources.threads_per_worker)
    models = _Models(weights)
    runs: list[Run | CheckpointError] = []
    for plan, its_ports in zip(plans, ports, strict=True):
        model = models.model_of(plan)
        try:
            run = run_of_model(
                plan, model, data_fingerprint=data_fingerprint, device=device, ports=its_ports
            )
        except CheckpointError as error:
            runs.append(error)
            continue
        begins = run.position.steps_done == 0
        assert weights is not None or not plan.model.pretrained or not begins, (
            f"{plan.spec.name} begins anew, and needs the pretrained weights"
        )
        runs.append(run)
    return runs


class _Models:
    """Makes models around one backbone.

    A head's initial weights follow from those of the backbone before it in one stream of random
    numbers, so a whole model is made once for each seed.
    """

    def __init__(self, weights: LoadedWeights | None) -> None:
        self._weights = weights
        self._by_seed: dict[int, FineTuneModel] = {}

    def model_of(self, plan: RunPlan) -> FineTuneModel:
        """Return a model with the first one's backbone and heads of its own."""
        seed = plan.spec.seed
        if seed not in self._by_seed:
            model = new_model(plan)
            if self._weights is not None:
                load_weights(model, self._weights, classes=plan.data.classes)
            self._by_seed[seed] = model
        shared = next(iter(self._by_seed.values())).backbone
        return FineTuneModel(shared, _copied_heads(plan, self._by_seed[seed].heads))


def _copied_heads(plan: RunPlan, heads: nn.ModuleDict) -> nn.ModuleDict:
    """Return heads as the plan wants them, with the initial weights of `heads`."""
    copies = nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        for label, spec in plan.spec.model.heads.items():
            copies[label] = make_head(
                spec, feature_dim=plan.model.feature_dim, num_classes=len(plan.data.classes)
            )
    copies.load_state_dict(heads.state_dict())
    return copies
