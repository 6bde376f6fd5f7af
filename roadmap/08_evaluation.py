# %% [markdown]
# # 8. Evaluation
#
# A loss of 3.4 alone is hard to interpret. This tutorial converts it to bits per byte, which can be
# compared across tokenizers, compares it with two simple baselines, and searches samples for text
# that is copied from the training set.

# %%
import math

import numpy as np
import torch

from groundup.data.protocol import ArrayTokens
from groundup.evaluation.intervals import wilson
from groundup.evaluation.loss import evaluate_loss, target_bytes
from groundup.evaluation.ngram_baseline import ByteNgrams
from groundup.evaluation.recitation import recitation
from groundup.evaluation.xz_baseline import xz_bits_per_byte
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.builtin import python_reference
from groundup.text.split import split_documents
from groundup.tokenizer.train_bpe import train_bpe

torch.set_num_threads(1)
split = split_documents(python_reference())
tokenizer = train_bpe((document.text for document in split.train), 384)
train_text = "\n".join(document.text for document in split.train)
validation_text = "\n".join(document.text for document in split.validation)
tokens = ArrayTokens(np.array(tokenizer.encode(validation_text), dtype=np.int64))
print(f"validation set: {len(validation_text):,} characters, {tokens.n_tokens:,} tokens")

# %% [markdown]
# ## Evaluate every token once
# The windows are placed so that each token after the first is a target exactly once, up to the end
# of the text. So the result does not depend on the batch size or on random sampling.

# %%
config = GPTConfig(
    vocab_size=tokenizer.vocab_size, context_length=64, d_model=48, n_layers=2, n_heads=4
)
model = GPT(config, seed=1)
loss = evaluate_loss(model, tokens, tokenizer=tokenizer)
other = evaluate_loss(model, tokens, tokenizer=tokenizer, batch_size=3)
assert loss.n_targets == tokens.n_tokens - 1
assert abs(loss.nats - other.nats) < 1e-5
print(f"{loss.nats:.4f} nats/token over {loss.n_targets:,} targets")

# %% [markdown]
# ## Three units of the loss
# The loss is in nats per token. Perplexity is exp(loss): the number of equally likely tokens with
# the same loss. Bits per byte is the size of the text if it were compressed with this model. Only
# bits per byte can be compared between different tokenizers.

# %%
assert loss.bits_per_byte is not None
print(f"perplexity {loss.perplexity:.1f}, bits per byte {loss.bits_per_byte:.3f}")
assert math.isclose(loss.perplexity, math.exp(loss.nats))
assert abs(loss.perplexity - tokenizer.vocab_size) < 0.2 * tokenizer.vocab_size, "untrained: ~ V"

# %% [markdown]
# ## Two baselines on the same bytes
# The n-gram model counts how often each byte follows the three bytes before it. The compressor `xz`
# finds repetitions; its window contains the training text. An untrained model is worse than both.

# %%
validation = b"".join(target_bytes(tokens, tokenizer))
assert loss.n_bytes == len(validation)
train = train_text.encode()
counts = ByteNgrams(train)
ngram = counts.bits_per_byte(validation)
xz = xz_bits_per_byte(train, validation)
print(
    f"untrained model {loss.bits_per_byte:.3f}, n-gram {ngram:.3f}, xz {xz.best:.3f} bits per byte"
)
assert loss.bits_per_byte > ngram
assert xz.best <= xz.alone

# %% [markdown]
# The n-gram model is a probability distribution: after any context its 256 probabilities sum to
# one.

# %%
probabilities = counts.probabilities(b"the")
most_likely = [chr(byte) for byte in np.argsort(-probabilities)[:5].tolist()]
print(f"most likely after 'the': {most_likely}; sum {probabilities.sum():.12f}")
assert abs(probabilities.sum() - 1) < 1e-12
assert most_likely[0] == " "

# %% [markdown]
# ## Find text copied from the training set
# `recitation` finds the longest part of a sample that is also in the training text, and the
# fraction of the sample that is copied.

# %%
sample = train_text[1000:1080] + " and then some new text: qwzx."
found = recitation(sample, train_text)
print(f"longest copy: {len(found.longest)} characters; {found.copied_frac:.0%} is copied")
assert len(found.longest) >= 80
assert recitation("zq" * 40, train_text).copied_frac == 0.0

# %% [markdown]
# ## Confidence intervals
# 17 correct answers of 20 are 85 %. With only 20 trials the true accuracy may well be 70 %.

# %%
few, many = wilson(17, 20), wilson(1700, 2000)
print(f"{few}\n{many}")
assert few.low < 0.70 < many.low
