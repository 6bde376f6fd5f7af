# %% [markdown]
# # 4. The data loader
#
# Training reads the windows in batches: B windows are stacked into one matrix of inputs and one of
# targets, of shape (B, T) each. After each batch the optimizer updates the parameters. The loader
# decides which windows a batch contains and in which order, and records its position.

# %%
import torch

from groundup import Loader, Windows, create_dataloader_v1, train_bpe
from groundup.text.builtin import python_reference

text = "\n\n".join(document.text for document in python_reference())
tokenizer = train_bpe([text], vocab_size=512)

# %% [markdown]
# ## The loader of the book
# `create_dataloader_v1` has the name, the defaults and the batches of the book, and accepts any
# tokenizer with an `encode` method. It needs less memory: the token ids are stored once, not once
# per window.

# %%
loader = create_dataloader_v1(
    text, batch_size=8, max_length=4, stride=4, shuffle=False, tokenizer=tokenizer
)
inputs, targets = next(iter(loader))
print("inputs\n", inputs, "\ntargets\n", targets)
assert inputs.shape == targets.shape == (8, 4)
assert inputs.dtype == torch.int64
assert torch.equal(inputs[:, 1:], targets[:, :-1])
assert torch.equal(inputs.flatten()[:9], torch.tensor(tokenizer.encode(text)[:9]))

# %% [markdown]
# When it shuffles, it uses torch's random state like the book's loader: a seed gives one order.

# %%
shuffled = create_dataloader_v1(text, tokenizer=tokenizer)
orders = []
for _ in range(2):
    torch.manual_seed(123)
    orders.append(next(iter(shuffled))[0])
assert torch.equal(orders[0], orders[1])

# %% [markdown]
# ## A loader that can resume
# The loader of this project is infinite and stores no shuffled list. The k-th batch is a pure
# function of (seed, k): the order is a keyed permutation, computed when it is needed. One number is
# enough to stop and resume.

# %%
windows = Windows(torch.tensor(tokenizer.encode(text)).numpy(), context_length=64, stride=64)
loader = Loader(windows, batch_size=8, seed=7)
first = [next(loader)[0] for _ in range(5)]
state = loader.state_dict()
rest = [next(loader)[0] for _ in range(5)]
print("the state:", state)

resumed = Loader(windows, batch_size=8, seed=7)
resumed.load_state_dict(state)
assert all(torch.equal(next(resumed)[0], batch) for batch in rest)
assert torch.equal(resumed.batch(2)[0], first[2]), "any batch can be read by its number"

# %% [markdown]
# ## One epoch reads every window once
# Each epoch has another order. A batch may contain windows of two epochs, so no window is dropped.

# %%
n = len(windows)
seen = [int(i) for k in range(n) for i in loader.indices(k)]  # n batches of 8: eight epochs
for epoch in range(8):
    assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(range(n))
assert seen[:n] != seen[n : 2 * n]
print(f"{n} windows, {loader.n_batches_per_epoch:.1f} batches per epoch; the first: {seen[:8]}")
