"""From the phases as written to plain ones: lengths without shares, and every thaw a phase.

What comes after, the ledger, the engine and a checkpoint, knows plain phases only.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rayft.errors import Problem, SpecError
from rayft.plan.facts import ModelFacts
from rayft.plan.rates import with_effect
from rayft.plan.schedule import length_in_steps
from rayft.plan.selectors import GroupNames, resolve_patterns
from rayft.spec.duration import parse_duration
from rayft.spec.run import RunSpec
from rayft.spec.training import PhaseSpec
from rayft.spec.unfreeze import UnfreezeSpec, parse_group_count


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainPhase:
    """A phase as it will run."""

    spec: PhaseSpec
    """Without `unfreeze`, and not a share of anything."""
    where: str
    """Path in the spec of the phase that it was made from, for messages."""


def plain_phases(
    spec: RunSpec, names: GroupNames, *, steps_per_epoch: int
) -> tuple[PlainPhase, ...]:
    """Return the phases of a run as they will run, in their order.

    Raises:
        SpecError: lengths do not fit together, or a phase cannot be thawed as asked.
    """
    lengths = _lengths(spec, steps_per_epoch)
    plain: list[PlainPhase] = []
    for index, (phase, num_steps) in enumerate(zip(spec.phases, lengths, strict=True)):
        where = f"phases.{index}"
        if parse_duration(phase.for_).unit == "percent":
            length = _in_words(num_steps, steps_per_epoch)
            phase = phase.model_copy(update={"for_": length})
        stages = _thawed(phase, num_steps, names, steps_per_epoch, where=where)
        plain += [PlainPhase(spec=stage, where=where) for stage in stages]
    _check_names(plain)
    return tuple(plain)


def with_plain_phases(spec: RunSpec, plain: Sequence[PlainPhase]) -> RunSpec:
    """Return the spec with its phases as they will run; the same spec where nothing changes."""
    phases = tuple(phase.spec for phase in plain)
    if phases == spec.phases:
        return spec
    return spec.model_copy(update={"phases": phases, "total": None})


def phase_image_size(phase: PhaseSpec, model: ModelFacts, *, where: str) -> int:
    """Return the height and width in pixels that a phase trains at.

    Raises:
        SpecError: it is not smaller than that of the run.
    """
    if phase.image_size is None:
        return model.image_size
    if phase.image_size >= model.image_size:
        raise SpecError(
            Problem(
                f"{where}.image_size",
                f"{phase.image_size} is not smaller than the {model.image_size} px that the "
                "images have",
                "remove it, or choose a smaller one; data.image_size sets that of the run",
            )
        )
    return phase.image_size


def _lengths(spec: RunSpec, steps_per_epoch: int) -> list[int]:
    """Return the steps of each phase; shares are cut so that no step is lost by rounding."""
    whole = length_in_steps(spec.total, 0, steps_per_epoch) if spec.total else 0
    taken = Fraction(0)
    lengths: list[int] = []
    for index, phase in enumerate(spec.phases):
        length = parse_duration(phase.for_)
        if length.unit == "percent":
            share = Fraction(str(length.amount)) / 100
            num_steps = round((taken + share) * whole) - round(taken * whole)
            taken += share
            if num_steps < 1:
                raise _too_short(phase, whole, where=f"phases.{index}.for")
        else:
            num_steps = length_in_steps(phase.for_, 0, steps_per_epoch)
        lengths.append(num_steps)
    if spec.total and sum(lengths) != whole:
        raise SpecError(
            Problem(
                "total",
                f"the phases take {sum(lengths):,} steps together, and total: {spec.total} is "
                f"{whole:,} steps",
                "change total or the lengths of phases (for) so that they agree",
            )
        )
    return lengths


def _too_short(phase: PhaseSpec, whole: int, *, where: str) -> SpecError:
    what = f"{phase.for_} of {whole:,} steps is less than one step"
    return SpecError(Problem(where, what, "raise the share, or total"))


def _thawed(
    phase: PhaseSpec, num_steps: int, names: GroupNames, steps_per_epoch: int, *, where: str
) -> Iterator[PhaseSpec]:
    """Yield the phase itself, or a phase for each thaw of it."""
    unfreeze = phase.unfreeze
    if unfreeze is None:
        yield phase
        return
    trained = resolve_patterns(phase.train, names, where=f"{where}.train")
    stages = _stages(trained, unfreeze)
    if len(stages) < 2:
        raise SpecError(
            Problem(
                f"{where}.unfreeze",
                f"it has no effect: {', '.join(trained)} would train from the start",
                "remove it, train more groups, or thaw fewer at a time",
            )
        )
    every = length_in_steps(unfreeze.every, num_steps, steps_per_epoch)
    last = num_steps - every * (len(stages) - 1)
    if every < 1 or last < 1:
        raise _no_time(phase, unfreeze, len(stages), where=where)
    for number, groups in enumerate(stages, start=1):
        is_last = number == len(stages)
        # What has no effect in the last of them has none at all, and is refused there.
        lr = phase.lr if is_last else with_effect(phase.lr, groups, names, where=f"{where}.lr")
        yield phase.model_copy(
            update={
                "name": f"{phase.name}-{number}",
                "train": groups,
                "for_": _in_words(last if is_last else every, steps_per_epoch),
                "lr": lr,
                "unfreeze": None,
            }
        )


def _stages(trained: Sequence[str], unfreeze: UnfreezeSpec) -> list[tuple[str, ...]]:
    """Return what trains after each thaw: the heads first, all of `trained` in the end."""
    heads = tuple(name for name in trained if name.startswith("heads."))
    backbone = tuple(name for name in trained if name not in heads)
    count = parse_group_count(unfreeze.by)
    by = int(count.amount)
    if count.unit == "percent":
        by = math.ceil(len(backbone) * Fraction(str(count.amount)) / 100)
    thawed = [*range(by, len(backbone), by), len(backbone)] if backbone else []
    return [heads] * bool(heads) + [(*backbone[-number:], *heads) for number in thawed]


def _no_time(phase: PhaseSpec, unfreeze: UnfreezeSpec, stages: int, *, where: str) -> SpecError:
    return SpecError(
        Problem(
            f"{where}.unfreeze",
            f"{stages - 1} thaws, one every {unfreeze.every}, leave no step of for: {phase.for_} "
            "to the last of them",
            "lengthen the phase (for), thaw more groups at a time (by), or sooner (every)",
        )
    )


def _in_words(num_steps: int, steps_per_epoch: int) -> str:
    """Return a length as it is written in a spec."""
    epochs, rest = divmod(num_steps, steps_per_epoch)
    return f"{num_steps} steps" if rest else f"{epochs} epochs"


def _check_names(plain: Sequence[PlainPhase]) -> None:
    twice = [name for name, count in Counter(p.spec.name for p in plain).items() if count > 1]
    if twice:
        where = next(phase.where for phase in plain if phase.spec.name == twice[0])
        what = f"unfreeze makes a phase {twice[0]!r}, and another phase has that name"
        raise SpecError(Problem(f"{where}.name", what, "rename one of them"))
