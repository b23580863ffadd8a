"""No number depends on how rows fell to workers, on blocks or on threads."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from rayft.metrics import classification_report, ranking, rows

CLASSES = tuple("abcdefg")


def evaluate(targets: NDArray, scores: NDArray, row_ids: NDArray) -> dict[str, Any]:
    return classification_report(
        targets=targets, scores=scores, row_ids=row_ids, classes=CLASSES
    ).to_json()


@st.composite
def splits(draw: st.DrawFn) -> tuple[NDArray, ...]:
    n = draw(st.integers(1, 40))
    # Few distinct values, so that ties occur.
    values = st.sampled_from([-3.0, -0.5, 0.0, 0.1, 0.7, 11.0])
    scores = draw(hnp.arrays(np.float32, (n, len(CLASSES)), elements=values))
    targets = draw(hnp.arrays(np.int64, n, elements=st.integers(0, len(CLASSES) - 1)))
    ids = np.array(draw(st.lists(st.integers(0, 10**12), min_size=n, max_size=n, unique=True)))
    return targets, scores, ids, np.array(draw(st.permutations(range(n))))


@settings(max_examples=100, deadline=None)
@given(splits())
def test_the_order_of_rows_changes_no_bit(split: tuple[NDArray, ...]) -> None:
    targets, scores, ids, order = split

    assert evaluate(targets, scores, ids) == evaluate(targets[order], scores[order], ids[order])


@settings(max_examples=50, deadline=None)
@given(splits())
def test_bounds_hold(split: tuple[NDArray, ...]) -> None:
    targets, scores, ids, _ = split

    found = evaluate(targets, scores, ids)

    figures = {k: v for k, v in found["metrics"].items() if k != "loss" and v is not None}
    assert all(0 <= value <= 1 for value in figures.values())
    assert found["metrics"]["loss"] >= 0
    assert sum(map(sum, found["confusion"])) == found["num_rows"]
    assert sum(found_class["support"] for found_class in found["classes"]) == found["num_rows"]


def draw_split(n: int) -> tuple[NDArray, ...]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, len(CLASSES), n)
    return targets, rng.normal(size=(n, len(CLASSES))).astype(np.float32), rng.permutation(n)


def test_blocks_and_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    split = draw_split(3001)
    whole = evaluate(*split)
    threads = torch.get_num_threads()

    monkeypatch.setattr(rows, "_BLOCK_VALUES", 100)
    monkeypatch.setattr(ranking, "_BLOCK_CLASSES", 2)
    torch.set_num_threads(1)
    in_blocks = evaluate(*split)
    torch.set_num_threads(threads)

    assert in_blocks == whole


def test_binned_auroc_is_near_the_exact_one_and_does_not_depend_on_order() -> None:
    targets, scores, order = draw_split(20_000)
    scores[np.arange(len(targets)), targets] += 1.5
    totals = np.log(np.exp(scores.astype(np.float64)).sum(1))

    exact = ranking.class_aurocs(targets, scores, totals)
    binned = ranking.class_aurocs(targets, scores, totals, exact_values=0)
    shuffled = ranking.class_aurocs(targets[order], scores[order], totals[order], exact_values=0)

    assert np.allclose(binned, exact, atol=2e-5, rtol=0)
    assert binned == shuffled
