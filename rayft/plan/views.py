"""Which random view of a row an epoch takes: a matter of the spec and the data alone."""

from dataclasses import dataclass

from rayft.plan.facts import DataFacts, ModelFacts
from rayft.plan.ledger import Ledger, make_ledger
from rayft.plan.phases import PlainPhase, phase_image_size, plain_phases, with_plain_phases
from rayft.plan.prefix_asked import views_in_turn
from rayft.plan.schedule import length_in_steps
from rayft.plan.selectors import group_names
from rayft.spec.run import RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    ledger: Ledger
    num_epochs: int
    image_size: int


def views_of_epochs(spec: RunSpec, model: ModelFacts, data: DataFacts) -> tuple[int | None, ...]:
    """Return for each epoch how many random views are taken in turn, as the plan of a run says.

    No machine is asked: `precision: auto` is taken for fp32, which matters only where a
    `cache.budget` decides between two numbers of views.

    Args:
        spec: the run.
        model: its model.
        data: its rows.

    Returns:
        One entry for each epoch; None where it takes new views.

    Raises:
        SpecError: the phases do not fit the model or the data.
    """
    steps_per_epoch = -(-data.num_rows("train") // spec.global_batch_size)
    plain = plain_phases(spec, group_names(model), steps_per_epoch=steps_per_epoch)
    phases = [_phase(each, model, steps_per_epoch) for each in plain]
    views = views_in_turn(
        with_plain_phases(spec, plain),
        model,
        data,
        phases,
        precision="bf16" if spec.precision == "bf16" else "fp32",
    )
    return tuple(
        number for phase, number in zip(phases, views, strict=True) for _ in range(phase.num_epochs)
    )


def _phase(plain: PlainPhase, model: ModelFacts, steps_per_epoch: int) -> _Phase:
    num_steps = length_in_steps(plain.spec.for_, 0, steps_per_epoch)
    return _Phase(
        ledger=make_ledger(plain.spec, model, weight_decay=0.0, where=plain.where),
        num_epochs=-(-num_steps // steps_per_epoch),
        image_size=phase_image_size(plain.spec, model, where=plain.where),
    )
