"""The cache takes as many positions as the context has, and not one more."""

import pytest
import torch

from groundup.base.errors import UserError
from groundup.generation.cache import KVCache
from groundup.model.config import GPTConfig

CONFIG = GPTConfig(vocab_size=9, context_length=8, d_model=16, n_layers=1, n_heads=2)


@pytest.mark.parametrize("n_stored", [0, 5, 7])
def test_a_full_cache_refuses_the_next_position(n_stored: int) -> None:
    cache = KVCache(CONFIG)
    if n_stored:
        stored = torch.ones(1, CONFIG.kv_heads, n_stored, CONFIG.head_width)
        cache.append(0, stored, stored)
        cache.advance(torch.zeros(1, n_stored, dtype=torch.long))
    left = torch.ones(1, CONFIG.kv_heads, 8 - n_stored, CONFIG.head_width)
    assert cache.append(0, left, left)[0].shape[2] == 8
    one_more = torch.ones(1, CONFIG.kv_heads, 9 - n_stored, CONFIG.head_width)
    with pytest.raises(UserError, match="8 positions"):
        cache.append(0, one_more, one_more)
