# %% [markdown]
# # 13. Long windows
#
# A window of 1.5 million tokens is easy to cut from a text (tutorial 3). To compute it is another
# matter: full attention compares each token with all tokens before it. This tutorial calculates
# what that costs, replaces it with layers that see a window, and measures whether a trained model
# uses the context that it is given.

# %%
import random
import tempfile
from pathlib import Path

import torch

from groundup.data.encode import encode_corpus
from groundup.data.store import TokenStore
from groundup.evaluation.context import context_losses
from groundup.evaluation.copying import copy_losses
from groundup.evaluation.load import load
from groundup.evaluation.needle import needle_recall, needle_text
from groundup.evaluation.reading import let_read
from groundup.generation.decoder import Decoder
from groundup.model.config import GPTConfig
from groundup.model.count import flops_per_token
from groundup.model.gpt import GPT
from groundup.pretraining.pretrain import pretrain
from groundup.text.config import PrepareConfig
from groundup.text.corpus import read_corpus
from groundup.text.prepare import prepare
from groundup.tokenizer.train_bpe import train_bpe
from groundup.train.config import PretrainConfig

torch.set_num_threads(1)

# %% [markdown]
# ## What a long window costs
# The matrices of a layer cost the same for each token. Full attention (`g`) costs more for each
# token the more tokens come before it, so a step costs T². In a window (`w`) each token is compared
# with the same number of tokens, whatever T is.

# %%
shape = GPTConfig(d_model=320, n_layers=8, n_heads=5, context_length=1_500_000)
for T in (1024, 65_536, 1_500_000):
    full = T * flops_per_token(shape, T)
    window = T * flops_per_token(
        GPTConfig(**{**vars(shape), "layers": "w", "window": 1024}), context_length=T
    )
    print(f"T = {T:>9,}: full {full:.1e} FLOPs a step, window {window:.1e}, {full / window:.1f} x")
assert full > 100 * window

# %% [markdown]
# ## How far windows reach
# A layer with a window of w tokens sees w - 1 tokens back. The next layer sees what the first one
# computed there, so L layers reach L times as far, and no further: a token before that does not
# change the output at all.

# %%
config = GPTConfig(
    vocab_size=50, context_length=64, d_model=32, n_layers=3, n_heads=2, layers="w", window=8
)
model = GPT(config, seed=1)
for parameter in model.parameters():  # the initial weights ignore the context
    torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(1))
ids = torch.arange(48)[None]
changed = ids.clone()
changed[0, 0] = 49
with torch.no_grad():
    differs = (model(ids) != model(changed)).any(dim=-1)[0]
reach = int(differs.nonzero().max())
print(f"the first token changes the outputs up to position {reach}")
assert reach == config.n_layers * (config.window - 1)

# %% [markdown]
# ## Is the context used?
# That a model accepts 256 tokens does not mean that it uses them. The same tokens are predicted
# with 32, 64, 128 and 256 tokens before them. Differences are compared token by token, so small
# ones are visible.

# %%
folder = Path(tempfile.mkdtemp())
data, run = folder / "data", folder / "run"
prepare(PrepareConfig(sources=("python-reference",), out=data))
tokenizer = train_bpe((document.text for document in read_corpus(data, "train")), 384)
tokenizer.save(data / "tokenizer")
encode_corpus(data, tokenizer)
small = GPTConfig(context_length=256, d_model=64, n_layers=2, n_heads=2, layers="w", window=32)
pretrain(PretrainConfig(data=data, out=run, model=small, steps=40, batch_size=4))
trained = load(run)
decoder = Decoder(trained.model)
tokens = TokenStore.open(data / "validation")
losses = context_losses(decoder, tokens, 256, n_targets=1920)
for each in losses:
    print(
        f"{each.n_context:>4} tokens: {each.nats:.4f} nats/token, {each.excess.mean:+.4f} "
        f"({each.excess.low:+.4f} to {each.excess.high:+.4f})"
    )
assert [each.n_context for each in losses] == [32, 64, 128, 256]
assert abs(losses[2].nats - losses[3].nats) < 1e-4

# %% [markdown]
# Two layers with a window of 32 reach 62 tokens back. So the loss with 128 tokens is that with 256,
# up to rounding. `groundup evaluate RUN --context` measures this for any run.

# %% [markdown]
# ## A passage that was read before
# A passage is easier to predict when it stands in the text already, if the model copies. The first
# reading is in the same place, after other tokens.

# %%
for copy in copy_losses(decoder, tokens, 256):
    print(
        f"{copy.distance:>4} tokens back: first {copy.first_nats:.3f}, second "
        f"{copy.second_nats:.3f}, gain {copy.gain.low:+.3f} to {copy.gain.high:+.3f}"
    )

# %% [markdown]
# ## A needle in a haystack
# A text gives each name a value, once; at its end the model is to tell the values. A model that was
# not trained on such texts does not find them, and neither does one whose windows do not reach the
# name. `recipes/pretrain/needles.toml` trains a model that finds them. Positions count inside
# the windows only, so the model can read texts that are longer than those of its training.

# %%
let_read(trained.model, 1000, setting="needle")
decoder = Decoder(trained.model)
text = needle_text(tokenizer, 1000, 1, random.Random(3))
print(tokenizer.decode(text.ids[:60]), "...", sep="\n")
question = text.questions[0]
print(f"the value{tokenizer.decode(text.ids[question.start : question.stop])} stands at its end")
recall = needle_recall(decoder, tokenizer, 1000, per_depth=5)
print("found at each depth:", [each.recall.n_right for each in recall], "of", recall[0].recall.n)
