# %% [markdown]
# # 3. The sliding window
#
# A model with a context of T tokens learns from pieces of T tokens. Each piece holds T tasks at
# once: after the first token, say the second; after the first two, say the third; and so on. The
# targets are the inputs, one token later.

# %%
import numpy as np

from groundup.data.ledger import account
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
# The window moves on by the stride. A stride of T uses each token once; a smaller one lets windows
# overlap: more pieces from the same text, and each token is guessed with different pasts before it.

# %%
numbers = np.arange(20)
for stride in (4, 2, 1):
    windows = Windows(numbers, context_length=4, stride=stride)
    starts = [int(windows[i][0][0]) for i in range(len(windows))]
    print(f"stride {stride}: {len(windows):>2} windows, starting at {starts}")
    assert len(windows) == max(0, -(-(len(numbers) - 4) // stride))

# %% [markdown]
# ## What falls off the end
# The last tokens rarely fill a window. The roadmap's rule leaves them out, in every epoch the same
# ones. With `coverage="exact"` the last window is moved back to end with the text, and what was
# a target before is masked: every token after the first is a target exactly once.

# %%
text = next(python_reference()).text
tokens = np.frombuffer(text.encode(), dtype=np.uint8)
for coverage in ("book", "exact"):
    windows = Windows(tokens, context_length=256, stride=256, coverage=coverage)
    ledger = account(windows, batch_size=2)
    print(
        f"{coverage:>5}: {len(windows)} windows over {len(tokens):,} tokens; targets "
        f"once {ledger.n_targets_once:,}, never {ledger.n_targets_tail:,}"
    )
assert ledger.n_targets_once == ledger.n_targets == len(tokens) - 1
_, last = windows.gather(np.array([len(windows) - 1]))
print(f"the last window masks {(last == -100).sum()} targets it shares with the one before")

# %% [markdown]
# ## A window costs nothing
# A window is a view of the tokens: no copy is made, so a context of a million and a half tokens,
# sliding by one, takes as little memory as one of four.

# %%
tokens = np.zeros(4_000_000, dtype=np.uint16)
windows = Windows(tokens, context_length=1_500_000, stride=1)
inputs, targets = windows[2_000_000]
assert np.shares_memory(inputs, tokens)
assert np.shares_memory(targets, tokens)
print(
    f"{len(windows):,} windows of {len(inputs):,} tokens over one array of {tokens.nbytes:,} bytes"
)
