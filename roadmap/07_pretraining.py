# %% [markdown]
# # 7. Pretraining
#
# In pretraining, a model predicts every next token of a batch of text. The loss measures how wrong
# the predictions are, and the optimizer changes each weight a little to reduce it. The training
# loop repeats this and reports the result of every step.

# %%
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from groundup.data.encode import encode_corpus
from groundup.evaluation.load import load
from groundup.generation.generate import generate
from groundup.model.config import GPTConfig
from groundup.pretraining.pretrain import pretrain
from groundup.text.config import PrepareConfig
from groundup.text.corpus import read_corpus
from groundup.text.prepare import prepare
from groundup.tokenizer.train_bpe import train_bpe
from groundup.train.build import prepare_training
from groundup.train.config import (
    CheckpointConfig,
    HardwareConfig,
    PretrainConfig,
    SampleConfig,
    ValidationConfig,
)
from groundup.train.data import open_data
from groundup.train.optimizer import OptimizerConfig
from groundup.train.schedule import Schedule
from groundup.train.step import Step

torch.set_num_threads(1)
folder = Path(tempfile.mkdtemp())
data = folder / "data"

# %% [markdown]
# ## Text, tokenizer, tokens
# The text is Python's language reference, which is part of every Python installation.

# %%
prepare(PrepareConfig(sources=("python-reference",), out=data))
tokenizer = train_bpe((document.text for document in read_corpus(data, "train")), 384)
tokenizer.save(data / "tokenizer")
stores = encode_corpus(data, tokenizer)
print(
    f"{stores['train'].n_tokens:,} training tokens, "
    f"{stores['validation'].n_tokens:,} validation tokens"
)

# %% [markdown]
# ## One training step
# The targets of a batch are its inputs, shifted by one token. The loss of an untrained model is
# near ln V, the loss of a uniform distribution over V tokens. `backward` computes the gradient of
# the loss for every weight, and the optimizer updates the weights in the opposite direction.

# %%
config = PretrainConfig(
    data=data,
    out=folder / "run",
    model=GPTConfig(context_length=64, d_model=48, n_layers=2, n_heads=4),
    steps=60,
    batch_size=8,
    optimizer=OptimizerConfig(learning_rate=0.02),
    validation=ValidationConfig(validate_every=20, validation_windows=16),
    checkpoints=CheckpointConfig(checkpoint_every=20),
    samples=SampleConfig(sample_every=None),
    hardware=HardwareConfig(threads=1),
)
setup = prepare_training(config, open_data(data))
inputs, targets = next(setup.loader)
assert torch.equal(inputs[:, 1:], targets[:, :-1])

loss = setup.model.loss(inputs, targets)
uniform = math.log(tokenizer.vocab_size)
print(f"first loss {loss.item():.3f}, ln {tokenizer.vocab_size} = {uniform:.3f}")
assert abs(loss.item() - uniform) < 0.2

weight = setup.model.blocks[0].mlp.down.weight
before = weight[0, :4].clone()
loss.backward()
setup.optimizer.step(1.0)
print(f"four weights before {before.tolist()}")
print(f"             after  {[round(value, 5) for value in weight[0, :4].tolist()]}")
assert not torch.equal(before, weight[0, :4]), "the step updates the weights"
assert setup.model.loss(inputs, targets).item() < loss.item(), "the loss of this batch is lower"

# %% [markdown]
# ## The schedule
# The learning rate increases during a few warmup steps, then decreases linearly to zero. Large
# updates make fast progress at first; small updates at the end reduce the remaining noise.

# %%
schedule = Schedule(n_steps=60, warmup_steps=10)
for step in (1, 5, 10, 30, 60):
    print(f"step {step:3}: {'#' * round(40 * schedule.factor(step))}")
assert schedule.factor(10) > schedule.factor(30) > schedule.factor(60) > 0

# %% [markdown]
# ## A complete run
# `pretrain` runs the training loop and writes a run folder: config, metrics, checkpoints, a figure
# and a README. The callback below stops the run after step 35, as an interruption would.

# %%
steps: list[Step] = []


class InterruptedRunError(Exception):
    """Simulates an interruption of the run."""


def interrupt(step: Step) -> None:
    steps.append(step)
    if step.step == 35:
        raise InterruptedRunError


try:
    pretrain(config, interrupt)
except InterruptedRunError:
    print(f"stopped after step {steps[-1].step} at a loss of {steps[-1].loss_nats:.3f}")

# %% [markdown]
# The same call resumes from the last checkpoint.

# %%
result = pretrain(config, steps.append)
print(f"resumed at step {result.resumed_from_step + 1}, ended at step {result.steps}")
assert result.resumed_from_step == 20

# %% [markdown]
# The weights at the end are bit-identical to those of an uninterrupted run.

# %%
uninterrupted = pretrain(replace(config, out=folder / "uninterrupted"))
resumed_model, other_model = load(result.run).model, load(uninterrupted.run).model
for one, other in zip(resumed_model.parameters(), other_model.parameters(), strict=True):
    assert torch.equal(one, other)
print(
    f"validation loss {result.first_validation_loss_nats:.3f} -> {result.validation_loss_nats:.3f}"
)
assert result.validation_loss_nats == uninterrupted.validation_loss_nats
assert result.validation_loss_nats < result.first_validation_loss_nats - 1

# %% [markdown]
# ## Generate text
# After a few seconds of training the model generates plausible sequences of letters and some words.
# `groundup story` trains twenty times longer.

# %%
language_model = load(result.run)
prompt = language_model.tokenizer.encode("The ")
new = generate(language_model.model, prompt, 40, temperature=0.8, seed=1)
print(repr(language_model.tokenizer.decode([*prompt, *new])))
print((result.run / "README.md").read_text().splitlines()[0])
