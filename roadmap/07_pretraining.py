# %% [markdown]
# # 7. Pretraining
#
# Show the model a piece of text, let it guess every next token, measure how surprised it is, and
# move each weight a little so that it would have been less so. That is all of pretraining. One
# loop does it, and it says what happened after every batch.

# %%
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from groundup.data.encode import encode_corpus
from groundup.evaluation.load import load
from groundup.generation.engine import generate
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
from groundup.train.loop import Step
from groundup.train.optimizer import OptimizerConfig
from groundup.train.schedule import Schedule

torch.set_num_threads(1)
folder = Path(tempfile.mkdtemp())
data = folder / "data"

# %% [markdown]
# ## Text, tokenizer, tokens
# The text is the one every Python brings along: its own language reference.

# %%
prepare(PrepareConfig(out=data))
tokenizer = train_bpe((document.text for document in read_corpus(data, "train")), 384)
tokenizer.save(data / "tokenizer")
stores = encode_corpus(data, tokenizer)
print(
    f"{stores['train'].n_tokens:,} tokens to learn from, {stores['validation'].n_tokens:,} held out"
)

# %% [markdown]
# ## One step, by hand
# A batch has targets that are its inputs moved by one. The loss of an untrained model is near
# ln V, the surprise of one who holds every token for equally likely. `backward` finds for every
# weight in which direction the loss grows; the optimiser moves all of them the other way.

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
assert not torch.equal(before, weight[0, :4]), "after each batch the parameters move"
assert setup.model.loss(inputs, targets).item() < loss.item(), "the same batch surprises less now"

# %% [markdown]
# ## The schedule
# The learning rate rises for a few steps and then sinks to zero, in a straight line: large steps
# first, to get into the valley, small ones at the end, to find its floor.

# %%
schedule = Schedule(n_steps=60, warmup_steps=10)
for step in (1, 5, 10, 30, 60):
    print(f"step {step:3}: {'#' * round(40 * schedule.factor(step))}")
assert schedule.factor(10) > schedule.factor(30) > schedule.factor(60) > 0

# %% [markdown]
# ## The whole run
# `pretrain` is the loop with a folder around it: config, metrics, checkpoints, samples, a page to
# read. We stop it in the middle, as a closed laptop would.

# %%
steps: list[Step] = []


class LidClosedError(Exception):
    """Something no program can foresee."""


def close_the_lid(step: Step) -> None:
    steps.append(step)
    if step.step == 35:
        raise LidClosedError


try:
    pretrain(config, close_the_lid)
except LidClosedError:
    print(f"stopped after step {steps[-1].step} at a loss of {steps[-1].loss_nats:.3f}")

# %% [markdown]
# The same call goes on from the last checkpoint ...

# %%
result = pretrain(config, steps.append)
print(f"went on at step {result.resumed_from_step + 1}, ended at step {result.steps}")
assert result.resumed_from_step == 20

# %% [markdown]
# ... and ends with the very weights of a run that nobody disturbed: not nearly, but bit for bit.

# %%
undisturbed = pretrain(replace(config, out=folder / "undisturbed"))
resumed_model, whole_model = load(result.run).model, load(undisturbed.run).model
for one, other in zip(resumed_model.parameters(), whole_model.parameters(), strict=True):
    assert torch.equal(one, other)
print(
    f"validation loss {result.first_validation_loss_nats:.3f} -> {result.validation_loss_nats:.3f}"
)
assert result.validation_loss_nats == undisturbed.validation_loss_nats
assert result.validation_loss_nats < result.first_validation_loss_nats - 1

# %% [markdown]
# ## What it writes
# After a few seconds of training: letters in plausible order, here and there a word. `groundup
# story` trains twenty times longer.

# %%
language_model = load(result.run)
prompt = language_model.tokenizer.encode("The ")
new = generate(language_model.model, prompt, 40, temperature=0.8, seed=1)
print(repr(language_model.tokenizer.decode([*prompt, *new])))
print((result.run / "README.md").read_text().splitlines()[0])
