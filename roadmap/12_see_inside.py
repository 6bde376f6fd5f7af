# %% [markdown]
# # 12. See inside
#
# The computations of a trained model can be inspected. Attention is the easiest part: for every
# head and every position, its weights show how much information comes from each earlier position.

# %%
import tempfile
from pathlib import Path

import torch

from groundup.data.encode import encode_corpus
from groundup.evaluation.load import load
from groundup.inspection.capture import capture
from groundup.inspection.report import write_report
from groundup.model.config import GPTConfig
from groundup.pretraining.pretrain import pretrain
from groundup.text.config import PrepareConfig
from groundup.text.corpus import read_corpus
from groundup.text.prepare import prepare
from groundup.tokenizer.train_bpe import train_bpe
from groundup.train.config import PretrainConfig

folder = Path(tempfile.mkdtemp())
data, run = folder / "data", folder / "run"
prepare(PrepareConfig(sources=("python-reference",), out=data))
tokenizer = train_bpe((document.text for document in read_corpus(data, "train")), 384)
tokenizer.save(data / "tokenizer")
encode_corpus(data, tokenizer)

# %% [markdown]
# ## Train a small model for a few seconds

# %%
shape = GPTConfig(context_length=64, d_model=64, n_layers=2, n_heads=2)
pretrain(PretrainConfig(data=data, out=run, model=shape, steps=60))
language_model = load(run)

# %% [markdown]
# ## Attention weights of one sentence
# Each row shows where one token attends to; darker cells have larger weights. Cells right of the
# diagonal are empty because of the causal mask.

# %%
ids = language_model.tokenizer.encode("The statement raises an exception")
seen = capture(language_model.model, ids)
L, H, T, _ = seen.attention.shape
assert (2, 2, len(ids)) == (L, H, T)
assert torch.allclose(seen.attention.sum(dim=-1), torch.ones(L, H, T), atol=1e-4)
assert (seen.attention.triu(1) == 0).all()
tokens = [language_model.tokenizer.decode([i]) for i in ids]
for head in range(H):
    print(f"layer 1, head {head}")
    for token, row in zip(tokens, seen.attention[1, head], strict=True):
        print(f"{token!r:>12} " + "".join(" ░▒▓█"[min(4, int(5 * w))] * 2 for w in row))

# %% [markdown]
# ## Predictions for the next token
# The softmax turns the last row of logits into probabilities.

# %%
top = seen.logits[-1].softmax(dim=-1).topk(5)
for probability, index in zip(top.values, top.indices, strict=True):
    print(f"{language_model.tokenizer.decode([int(index)])!r:>12} {probability:.1%}")

# %% [markdown]
# ## An HTML report
# The report is a single HTML file that needs no network connection. Open it in a browser.

# %%
report = write_report(run, text="The statement raises an exception")
page = report.read_text(encoding="utf-8")
print(f"{report.name}: {len(page):,} characters")
assert not any(word in page for word in ('src="http', "<link", "@import", "fetch("))
