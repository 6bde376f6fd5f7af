# %% [markdown]
# # 8. Evaluation
#
# A loss of 3.4 says nothing by itself. Here it is turned into a figure that can be compared across
# tokenizers, set beside two opponents that know no language, and the samples are searched for what
# is merely recited.

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
held_out_text = "\n".join(document.text for document in split.validation)
tokens = ArrayTokens(np.array(tokenizer.encode(held_out_text), dtype=np.int64))
print(f"{len(held_out_text):,} characters held out, {tokens.n_tokens:,} tokens")

# %% [markdown]
# ## Every token once
# Windows are laid so that each token after the first is a target exactly once, the tail included.
# So the result does not depend on the batch size, and hardly on luck.

# %%
config = GPTConfig(
    vocab_size=tokenizer.vocab_size, context_length=64, d_model=48, n_layers=2, n_heads=4
)
model = GPT(config, seed=1)
loss = evaluate_loss(model, tokens, tokenizer=tokenizer)
other = evaluate_loss(model, tokens, tokenizer=tokenizer, batch_size=3)
assert loss.n_targets == tokens.n_tokens - 1
assert abs(loss.nats - other.nats) < 1e-5
print(f"{loss.nats:.4f} nats a token over {loss.n_targets:,} targets")

# %% [markdown]
# ## Three names for one thing
# The loss in nats; the perplexity, among how many equally likely tokens the model hesitates; and
# bits per byte, what it would cost to store the text with this model's help. Only the last one
# does not care how the text was cut into tokens.

# %%
assert loss.bits_per_byte is not None
print(f"perplexity {loss.perplexity:.1f}, bits per byte {loss.bits_per_byte:.3f}")
assert math.isclose(loss.perplexity, math.exp(loss.nats))
assert abs(loss.perplexity - tokenizer.vocab_size) < 0.2 * tokenizer.vocab_size, "untrained: ~ V"

# %% [markdown]
# ## Two opponents on the same bytes
# One counts how often each byte followed the three before it. The other is the compressor `xz`,
# which finds repetitions, with the training text in its window. An untrained model loses to both.

# %%
held_out = target_bytes(tokens, tokenizer)
assert loss.n_bytes == len(held_out)
train = train_text.encode()
counts = ByteNgrams(train)
ngram = counts.bits_per_byte(held_out)
xz = xz_bits_per_byte(train, held_out)
print(
    f"untrained model {loss.bits_per_byte:.3f}, n-gram {ngram:.3f}, xz {xz.best:.3f} bits per byte"
)
assert loss.bits_per_byte > ngram
assert xz.best <= xz.alone

# %% [markdown]
# The n-gram model is a true probability distribution: after any context its 256 chances sum to one.

# %%
chances = counts.probabilities(b"the")
likeliest = [chr(byte) for byte in np.argsort(-chances)[:5].tolist()]
print(f"after 'the' come {likeliest}; sum {chances.sum():.12f}")
assert abs(chances.sum() - 1) < 1e-12
assert likeliest[0] == " "

# %% [markdown]
# ## Does it write or recite?
# The longest stretch of a sample that stands word for word in the training text tells.

# %%
quoted = train_text[1000:1080] + " and then something of my own: qwzx."
found = recitation(quoted, train_text)
print(f"longest stretch found: {len(found.longest)} characters; {found.copied_frac:.0%} is copied")
assert len(found.longest) >= 80
assert recitation("zq" * 40, train_text).copied_frac == 0.0

# %% [markdown]
# ## How sure is a share?
# 17 right answers of 20 sound like 85 %. With so few trials the truth may well be 70.

# %%
few, many = wilson(17, 20), wilson(1700, 2000)
print(f"{few}\n{many}")
assert few.low < 0.70 < many.low
