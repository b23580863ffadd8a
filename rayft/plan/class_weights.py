"""How much each class's rows weigh in the loss of a head."""

from collections.abc import Mapping
from difflib import get_close_matches

from rayft.errors import Problem, SpecError
from rayft.plan.facts import DataFacts
from rayft.spec.model import ClassificationHead
from rayft.spec.run import RunSpec

ClassWeights = tuple[float, ...] | None


def plan_class_weights(spec: RunSpec, data: DataFacts) -> dict[str, ClassWeights]:
    """Return for each head the weight of each class, None where all are 1.

    Raises:
        SpecError: a class is named that the data does not have, or classes come equally often.
    """
    for name, head in spec.model.heads.items():
        # Looked at here and not by the spec: a checkpoint of an earlier run may say so.
        if spec.data.order == "balanced" and head.class_weights == "auto":
            what = "auto evens out classes that data.order: balanced has evened out already"
            fix = "remove it, or set data.order to permutation"
            raise SpecError(Problem(f"model.heads.{name}.class_weights", what, fix))
    return {
        name: _weights(head, data, where=f"model.heads.{name}.class_weights")
        for name, head in spec.model.heads.items()
    }


def _weights(head: ClassificationHead, data: DataFacts, *, where: str) -> ClassWeights:
    wanted = head.class_weights
    if wanted == "none":
        return None
    if wanted == "auto":
        return _balanced(data.counts["train"])
    _check_names(wanted, data.classes, where)
    return tuple(wanted.get(name, 1.0) for name in data.classes)


def _balanced(counts: tuple[int, ...]) -> tuple[float, ...]:
    """Return weights by which all classes that have rows weigh alike, and a row 1 on average.

    Source: King & Zeng 2001, "Logistic regression in rare events data", section 4.2: the inverse of
    a class's share of the rows.
    """
    present = [count for count in counts if count]
    mean = sum(present) / max(1, len(present))
    return tuple(mean / count if count else 1.0 for count in counts)


def _check_names(wanted: Mapping[str, float], classes: tuple[str, ...], where: str) -> None:
    problems = []
    for name in wanted.keys() - set(classes):
        near = get_close_matches(name, classes, n=3) or classes[:3]
        problems.append(
            Problem(
                f"{where}.{name}",
                f"the data has no class {name!r} among its {len(classes)}",
                f"use a class that it has, such as {', '.join(near)}",
            )
        )
    if problems:
        raise SpecError(*sorted(problems, key=lambda problem: problem.where))
