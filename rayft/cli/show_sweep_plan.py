"""What a sweep would do, for people and for scripts."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from rayft.plan.placement import in_words
from rayft.runtime.sweep_plan import SweepPlan

_MOST_PROBLEMS = 8


def print_sweep_plan(plan: SweepPlan, console: Console) -> None:
    """Print trials, what they share, and how many run at a time."""
    for line in _lines(plan):
        console.print(Text(line), soft_wrap=True)


def _lines(plan: SweepPlan) -> Iterator[str]:
    sweep, slots = plan.sweep, plan.slots
    yield f"sweep       {sweep.name}: {_search(plan)}, {sweep.scheduler.kind}, by {sweep.metric}"
    yield f"space       {', '.join(sweep.space)}"
    problems = list(plan.problems.items())
    for trial, problem in problems[:_MOST_PROBLEMS]:
        yield f"invalid     trial {trial}: {problem}"
    if len(problems) > _MOST_PROBLEMS:
        yield f"invalid     and {len(problems) - _MOST_PROBLEMS} more trials"
    fused = [unit for unit in plan.units if unit.kind == "fused"]
    for unit in fused:
        yield f"fused       {len(unit.trials)} trials as one model ({unit.name})"
    if plan.tree.epochs:
        for number, line in enumerate(plan.tree.lines()):
            yield f"{'' if number else 'shared':<12}{line}"
    number = min(slots.number, max(1, len(plan.units)))
    yield f"at a time   {number}, each with {in_words(slots.unit)} ({slots.reason})"


def _search(plan: SweepPlan) -> str:
    search = plan.sweep.search
    if search.kind == "tpe":
        return f"tpe, {search.num_trials} trials"
    return f"{search.kind}, {len(plan.points)} trials"


def sweep_plan_json(plan: SweepPlan) -> dict[str, object]:
    """Return the plan for scripts."""
    return {
        "trials": [{"trial": p.trial, "values": dict(p.values)} for p in plan.points],
        "invalid": {str(trial): problem for trial, problem in plan.problems.items()},
        "units": [
            {
                "name": unit.name,
                "kind": unit.kind,
                "trials": list(unit.trials),
                "begins_from": unit.begins_from,
            }
            for unit in plan.units
        ],
        "epochs": {"run": plan.tree.epochs_run, "saved": plan.tree.epochs_saved},
        "slots": {"number": plan.slots.number, "unit": dict(plan.slots.unit)},
    }
