# %% [markdown]
# # 10. A classifier
#
# A language model has read texts; a classifier has to put a name on one. The step from one to the
# other is small: keep the model, replace the head over the vocabulary by a head over the classes,
# and go on training with the same loop. The names here come with the text itself: which document
# is this passage from?

# %%
import math

import torch

from groundup.base.targets import IGNORE_INDEX
from groundup.evaluation.intervals import wilson
from groundup.finetune.batches import RowLoader, label_row
from groundup.finetune.classify.baselines import (
    bag_of_words_predictions,
    majority_predictions,
    n_correct,
)
from groundup.finetune.classify.classifier import Classifier, LoadedClassifier
from groundup.finetune.classify.classify import compare, confusion_matrix
from groundup.finetune.classify.passages import passages_by_source
from groundup.finetune.foundation import tune
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.builtin import python_reference
from groundup.tokenizer.train_bpe import train_bpe
from groundup.train.optimizer import Optimizer

# %% [markdown]
# ## Examples that do not overlap
# Passages of three documents, cut one after another; every so often a few neighbours are kept for
# the test. As many of each document, so that guessing is right one time in three.

# %%
split = passages_by_source(python_reference(), n_classes=3, n_characters=120, test_frac=0.25)
print(f"{len(split.train)} passages to learn from, {len(split.test)} to test on; {split.names}")
print(f"{split.test[0].label}: {split.test[0].text[:70]}...")
assert not {e.text for e in split.train} & {e.text for e in split.test}

# %% [markdown]
# ## What there is to beat
# Two opponents, before anything is trained: always the commonest class, and a logistic regression
# on which words occur, in whatever order.

# %%
n = len(split.test)
majority = wilson(n_correct(majority_predictions(split), split.test), n)
bag = wilson(n_correct(bag_of_words_predictions(split), split.test), n)
print(f"majority class  {majority}\nbag of words    {bag}")
assert bag.low > majority.high, "words tell documents apart"

# %% [markdown]
# ## The same model with another head
# A small model, here without any pretraining (`groundup classify RUN` starts from a trained one).
# The head starts at zero, so the first guess is even and the first loss is ln 3.

# %%
tokenizer = train_bpe([e.text for e in split.train], 512)
config = GPTConfig(
    vocab_size=tokenizer.vocab_size, context_length=64, d_model=64, n_layers=2, n_heads=2
)
classifier = Classifier(GPT(config, seed=1), split.names, pooling="mean")
rows = [label_row(tokenizer.encode(e.text)[:64], split.index(e.label)) for e in split.train]
loader = RowLoader(rows, batch_size=16, seed=0)
ids, targets = loader.batch(0)
first_loss = float(classifier.loss(ids, targets).detach())
print(f"one batch: {tuple(ids.shape)}, first loss {first_loss:.3f}, ln 3 = {math.log(3):.3f}")
assert math.isclose(first_loss, math.log(3), rel_tol=1e-5)
assert (targets != IGNORE_INDEX).sum() == len(targets), (
    "one label per passage, the rest is left out"
)

# %% [markdown]
# ## Tune with the one loop

# %%
optimizer = Optimizer(classifier, kind="adamw", learning_rate=0.002)
steps = tune(classifier, iter(loader), classifier.loss, optimizer, n_steps=100, on_step=None)
print(f"loss {steps[0].loss_nats:.3f} -> {steps[-1].loss_nats:.3f} in {steps[-1].elapsed_s:.1f} s")

loaded = LoadedClassifier(classifier, tokenizer)
predicted = loaded.predict([e.text for e in split.test])
ours = wilson(n_correct(predicted, split.test), n)
print(f"tuned model     {ours}")
print(compare(ours, bag))
assert ours.low > majority.high, "it has learnt something, beyond chance"

# %% [markdown]
# ## Where it goes wrong
# A row for each true class, a column for each answer: what is off the diagonal is a mistake.

# %%
matrix = confusion_matrix(split.names, [e.label for e in split.test], predicted)
for name, counts in zip(split.names, matrix, strict=True):
    print(f"{name:>16} {counts}")
assert sum(matrix[k][k] for k in range(3)) == ours.n_right

# %% [markdown]
# ## Padding changes nothing
# A short text in a batch with a long one is filled up to the right. Causal attention looks left
# only, and the pooling leaves the filling out: alone or in company, the answer is the same.

# %%
short, long = "class attributes", split.test[0].text
alone, together = loaded.probabilities([short])[0], loaded.probabilities([short, long])[0]
print(f"alone {alone.tolist()}\ntogether {together.tolist()}")
assert torch.allclose(alone, together, atol=1e-5)
