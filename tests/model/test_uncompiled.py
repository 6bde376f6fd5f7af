"""What the compiler does not trace."""

import subprocess
import sys

import pytest

# In a separate process: under pytest calls are type-checked, which breaks the graph.
CODE = """
import torch
from torch._dynamo.utils import counters
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
for layers, window in (("d", None), ("w", 64)):
    config = GPTConfig(vocab_size=31, d_model=16, n_layers=1, n_heads=2, context_length=2048,
                       layers=layers, window=window)
    model = GPT(config, seed=1)
    compiled = torch.compile(model, dynamic=False, backend="eager")
    for n in (256, 2048):
        torch._dynamo.reset()
        counters.clear()
        ids = torch.arange(n)[None] % 31
        torch.testing.assert_close(compiled(ids), model(ids))
        print(counters["stats"]["calls_captured"])
"""


@pytest.mark.slow
def test_a_longer_text_makes_no_larger_program() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    of_delta, of_delta_longer, of_window, of_window_longer = map(int, done.stdout.split())
    assert 10 < of_delta == of_delta_longer
    assert 10 < of_window == of_window_longer
