"""Each process draws its own random numbers at each step, the same ones after a resume."""

import torch

from groundup.train.distributed import World


def drawn(rank: int, step: int, seed: int = 0, size: int = 2) -> float:
    world = World()
    world.rank, world.size, world.seed = rank, size, seed
    world.reseed(step)
    return float(torch.rand(()))


def test_rank_step_and_seed_all_count() -> None:
    with torch.random.fork_rng():
        numbers = [drawn(rank, step, seed) for rank in (0, 1) for step in (1, 2) for seed in (0, 1)]
        assert len(set(numbers)) == 8
        assert drawn(1, 2, 1) == numbers[-1]


def test_a_process_alone_is_not_seeded_again() -> None:
    with torch.random.fork_rng():
        assert drawn(0, 1, size=1) != drawn(0, 1, size=1)
