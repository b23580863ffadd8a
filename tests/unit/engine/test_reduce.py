import pytest
import torch

from rayft.engine.reduce import TreeSum


def tree(values: list[torch.Tensor]) -> torch.Tensor:
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return tree(values[:half]) + tree(values[half:])


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_leaves_are_summed_by_a_balanced_tree_to_the_bit(count: int) -> None:
    values = list(torch.randn(count, 100, generator=torch.Generator().manual_seed(0)) * 1e3)
    summed = TreeSum()

    for value in values:
        summed.add(value)

    assert torch.equal(summed.total(), tree(values))


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_subtrees_of_workers_join_to_the_same_tree(workers: int) -> None:
    values = list(torch.randn(8, 100, generator=torch.Generator().manual_seed(1)) * 1e3)
    share = 8 // workers
    parts = []
    for rank in range(workers):
        local = TreeSum()
        for value in values[rank * share : (rank + 1) * share]:
            local.add(value)
        parts.append(local.total())
    whole = TreeSum()

    for part in parts:
        whole.add(part)

    assert torch.equal(whole.total(), tree(values))


def test_the_order_of_summing_matters_so_that_these_tests_can_fail() -> None:
    values = list(torch.randn(8, 1000, generator=torch.Generator().manual_seed(1)) * 1e3)

    assert not torch.equal(sum(values[1:], values[0]), tree(values))


def test_three_leaves_have_no_fixed_tree() -> None:
    summed = TreeSum()
    for _ in range(3):
        summed.add(torch.ones(1))

    with pytest.raises(RuntimeError, match="power of two"):
        summed.total()
