"""Many answers at once are the answers `generate` gives one by one."""

import torch

from groundup.finetune.instruct.answers import answer_all
from groundup.generation.generate import generate
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT


def test_equal_to_generate_one_by_one() -> None:
    gpt = GPT(GPTConfig(vocab_size=11, context_length=40, d_model=16, n_layers=2, n_heads=2))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    prompts = [
        torch.randint(0, 11, (n,), generator=generator).tolist() for n in (1, 9, 4, 4, 30, 2, 7)
    ]
    freely = answer_all(gpt, prompts, 10, stop_ids=set())
    stops = {freely[0][2], freely[3][4]}
    together = answer_all(gpt, prompts, 10, stop_ids=stops, batch_size=3)
    apart = [generate(gpt, p, 10, temperature=0.0, stop_ids=stops) for p in prompts]
    assert together == apart
    assert len({len(answer) for answer in together}) > 1, "no answer was stopped: a blind test"


def test_it_ends_where_the_context_is_full() -> None:
    gpt = GPT(GPTConfig(vocab_size=11, context_length=8, d_model=16, n_layers=1, n_heads=2))
    (answer,) = answer_all(gpt, [[1, 2, 3, 4, 5]], 10, stop_ids=set())
    assert len(answer) == 3
