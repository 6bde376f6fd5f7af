# %% [markdown]
# # 3. Sliding windows
#
# A model with context length T is trained on windows of T tokens. Each window contains T
# predictions: the second token from the first, the third from the first two, and so on. The targets
# are the inputs, shifted by one token.

# %%
import numpy as np

from groundup.data.ledger import account
from groundup.data.protocol import ArrayTokens
from groundup.data.windows import Windows
from groundup.text.builtin import python_reference
from groundup.tokenizer.words import WordTokenizer

sentence = "I HAD always thought Jack Gisburn rather a cheap genius"
tokenizer = WordTokenizer.from_text(sentence)
tokens = np.array(tokenizer.encode(sentence))
windows = Windows(tokens, context_length=4, stride=4)
inputs, targets = windows[0]
print("inputs ", tokenizer.decode(inputs), "\ntargets", tokenizer.decode(targets))
for t in range(4):
    print(f"  [{', '.join(tokenizer.decode([i]) for i in inputs[: t + 1])}]", end=" -> ")
    print(tokenizer.decode([targets[t]]))
assert (inputs[1:] == targets[:-1]).all()

# %% [markdown]
# ## The stride
# The stride is the distance between the starts of two windows. With a stride of T each token is
# used once. With a smaller stride the windows overlap: the same text gives more windows, and each
# token is predicted from several different contexts.

# %%
numbers = np.arange(20)
for stride in (4, 2, 1):
    windows = Windows(numbers, context_length=4, stride=stride)
    starts = [int(windows[i][0][0]) for i in range(len(windows))]
    print(f"stride {stride}: {len(windows):>2} windows, starting at {starts}")
    assert len(windows) == max(0, -(-(len(numbers) - 4) // stride))

# %% [markdown]
# ## The end of the text
# The last tokens rarely fill a window. The book's rule drops them, the same ones in every epoch.
# With `coverage="exact"` the last window is moved back so that it ends with the text, and targets
# of an earlier window are masked. Then every token after the first is a target exactly once.

# %%
text = next(python_reference()).text
tokens = np.frombuffer(text.encode(), dtype=np.uint8)
for coverage in ("book", "exact"):
    windows = Windows(tokens, context_length=256, stride=256, coverage=coverage)
    ledger = account(windows, batch_size=2)
    print(
        f"{coverage:>5}: {len(windows)} windows over {len(tokens):,} tokens; predicted "
        f"once {ledger.n_targets_once:,}, never {ledger.n_targets_tail:,}"
    )
assert ledger.n_targets_once == ledger.n_targets == len(tokens) - 1
_, last = windows.gather(np.array([len(windows) - 1]))
print(f"the last window masks {(last == -100).sum()} targets that the window before contains")

# %% [markdown]
# ## Documents
# A window over many short documents holds the end of one and the beginning of the next. With
# `documents="isolated"` they are separate: the first token of a document is not a target, and
# positions restart, so that the model can compute each document as if it were alone. "packed" puts
# as many complete documents in a window as fit; the rest is padding, with the target -100.
# `groundup pretrain --documents packed` trains on such windows.

# %%
documents = ArrayTokens(np.arange(12), document_starts=[0, 5, 8])  # of 5, 3 and 4 tokens
everything = Windows(documents, context_length=6, coverage="exact", documents="isolated")
both = np.arange(2)
inputs, targets = everything.gather(both)
positions = everything.boundaries(both).positions
print("isolated\ninputs   ", inputs[0], "\ntargets  ", targets[0], "\npositions", positions[0])
assert targets[0].tolist() == [1, 2, 3, 4, -100, 6]  # 5 begins a document
assert positions[0].tolist() == [0, 1, 2, 3, 4, 0]
packed = Windows(documents, context_length=6, documents="packed")
for inputs, targets in (packed[i] for i in range(len(packed))):
    print("packed  ", inputs, "->", targets)
print("tokens of each document in a window:", packed.document_lengths(both).tolist())
assert packed.document_lengths(both).tolist() == [[4, 2], [3, 0]]

# %% [markdown]
# ## Windows take no memory
# A window is a view of the token array, not a copy. So a context of 1.5 million tokens with a
# stride of 1 takes no more memory than a context of four tokens.

# %%
tokens = np.zeros(4_000_000, dtype=np.uint16)
windows = Windows(tokens, context_length=1_500_000, stride=1)
inputs, targets = windows[2_000_000]
assert np.shares_memory(inputs, tokens)
assert np.shares_memory(targets, tokens)
print(
    f"{len(windows):,} windows of {len(inputs):,} tokens over one array of {tokens.nbytes:,} bytes"
)
