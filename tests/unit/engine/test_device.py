from itertools import product

from rayft.engine.device import shard_seed


def test_every_step_and_shard_has_a_stream_of_its_own() -> None:
    seeds = {shard_seed(s, t, v) for s, t, v in product(range(4), range(50), range(8))}

    assert len(seeds) == 4 * 50 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_step_and_shard_do_not_stand_for_each_other() -> None:
    assert shard_seed(0, 1, 2) != shard_seed(0, 2, 1)
