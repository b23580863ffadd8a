"""What a plan warns of: allowed, and seldom meant."""

from collections.abc import Sequence

from rayft.plan.facts import DataFacts, ModelFacts
from rayft.plan.ledger import Ledger
from rayft.plan.resources import ResourcePlan
from rayft.spec.data import RGB
from rayft.spec.model import RunWeights
from rayft.spec.run import RunSpec


def warnings_of(
    spec: RunSpec,
    model: ModelFacts,
    data: DataFacts,
    resources: ResourcePlan,
    ledgers: Sequence[Ledger],
) -> tuple[str, ...]:
    """Say what a run does that its user may not expect.

    Args:
        spec: the run.
        model: its model.
        data: its rows.
        resources: its workers, with warnings of their own.
        ledgers: what trains in each phase.
    """
    warnings = list(resources.warnings)
    first = model.groups[0].name
    # Those of an earlier run may have been trained for these channels.
    if (
        model.channels > RGB
        and model.pretrained
        and not isinstance(spec.model.backbone.weights, RunWeights)
        and not any(ledger.trains(first) for ledger in ledgers)
    ):
        many = model.channels > RGB + 1
        new = f"channels 4 to {model.channels} are" if many else "channel 4 is"
        warnings.append(
            f"{new} not seen: unless the weights have filters for more than RGB, new ones start at "
            f"zero, and no phase trains `{first}`, which holds them"
        )
    if not model.pretrained:
        warnings.append(
            "the backbone starts from RANDOM weights (model.backbone.weights: none): this trains "
            "from scratch, it does not fine-tune"
        )
    if data.num_bad_rows:
        warnings.append(f"rows that cannot be read and are left out: {data.num_bad_rows}")
    if spec.batch_norm != "pretrained":
        warnings.append(
            f"batch_norm: {spec.batch_norm} makes results depend on the number of workers"
        )
    return tuple(warnings)
