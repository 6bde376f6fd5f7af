"""N-gram rows depend only on the last tokens, and are the same when a text is read in parts."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.generation.cache import KVCache
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.model.ngram_embedding import NGramEmbedding

CONFIG = GPTConfig(
    vocab_size=9, context_length=16, d_model=8, n_layers=1, n_heads=2, ngram=4, ngram_rows=1009
)


TOKENS = st.lists(st.integers(0, 8), max_size=6)


@given(earlier=TOKENS, others=TOKENS, run=st.lists(st.integers(0, 8), min_size=4, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_row_depends_only_on_the_last_tokens(
    earlier: list[int], others: list[int], run: list[int]
) -> None:
    table = NGramEmbedding(CONFIG)
    one, other = (table.rows(torch.tensor([text + run]))[0, -1] for text in (earlier, others))
    assert torch.equal(one, other)
    assert not torch.equal(one, table.rows(torch.tensor([[*run[:-1], (run[-1] + 1) % 9]]))[0, -1])


def test_each_length_has_its_own_rows_and_few_collide() -> None:
    table = NGramEmbedding(CONFIG)
    ids = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    pairs, triples, _ = table.rows(ids)[:, 1].T
    assert pairs.max() < 1009 <= triples.min()
    assert len(pairs.unique()) > 70  # of 81 pairs


@given(cut=st.integers(1, 11))
@settings(max_examples=11, deadline=None)
def test_a_text_read_in_parts_gives_the_logits_of_the_whole(cut: int) -> None:
    model = GPT(CONFIG, seed=3).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    ids = torch.randint(9, (2, 12), generator=generator)
    cache = KVCache(CONFIG, batch_size=2)
    with torch.no_grad():
        parts = [model(ids[:, :cut], cache=cache)]
        parts += [model(ids[:, at : at + 1], cache=cache) for at in range(cut, 12)]
        torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), rtol=1e-4, atol=1e-4)
