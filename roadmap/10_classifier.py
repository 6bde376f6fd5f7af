# %% [markdown]
# # 10. A classifier
#
# A classifier assigns a label to a text. To turn a language model into a classifier, keep the
# model, replace the head over the vocabulary by a head over the classes, and fine-tune with the
# same training loop. The task in this tutorial needs no annotation: which document is a passage
# from?

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
from groundup.finetune.classify.passages import passages_by_source
from groundup.finetune.classify.result import compare, confusion_matrix
from groundup.finetune.training import tune
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.builtin import python_reference
from groundup.tokenizer.train_bpe import train_bpe
from groundup.train.optimizer import Optimizer, OptimizerConfig

# %% [markdown]
# ## Examples that do not overlap
# The examples are consecutive passages of three documents. At intervals a few adjacent passages go
# to the test set. Each class has the same number of examples, so the accuracy of random guessing is
# one third.

# %%
split = passages_by_source(python_reference(), n_classes=3, n_characters=120, test_frac=0.25)
print(f"{len(split.train)} training passages, {len(split.test)} test passages; {split.names}")
print(f"{split.test[0].label}: {split.test[0].text[:70]}...")
assert not {e.text for e in split.train} & {e.text for e in split.test}

# %% [markdown]
# ## Baselines
# Two baselines to compare with: always predict the most frequent class, and a logistic regression
# on the words of a passage, ignoring their order.

# %%
n = len(split.test)
majority = wilson(n_correct(majority_predictions(split), split.test), n)
bag = wilson(n_correct(bag_of_words_predictions(split), split.test), n)
print(f"majority class  {majority}\nbag of words    {bag}")
assert bag.low > majority.high, "the words distinguish the documents"

# %% [markdown]
# ## The same model with a classification head
# This small model is not pretrained (`groundup classify RUN` starts from a trained one). The head
# starts at zero, so the first predictions are uniform and the first loss is ln 3.

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
assert (targets != IGNORE_INDEX).sum() == len(targets), "one label per passage"

# %% [markdown]
# ## Fine-tune
# The training loop is the same as in pretraining.

# %%
optimizer = Optimizer(
    classifier, OptimizerConfig(name="adamw", learning_rate=0.002, weight_decay=0.0)
)
steps = tune(classifier, iter(loader), classifier.loss, optimizer, n_steps=100, on_step=None)
print(f"loss {steps[0].loss_nats:.3f} -> {steps[-1].loss_nats:.3f} in {steps[-1].elapsed_s:.1f} s")

loaded = LoadedClassifier(classifier, tokenizer)
predicted = loaded.predict([e.text for e in split.test])
tuned = wilson(n_correct(predicted, split.test), n)
print(f"tuned model     {tuned}")
print(compare(tuned, bag))
assert tuned.low > majority.high, "the model is better than the majority class"

# %% [markdown]
# ## Confusion matrix
# Each row is a true class, each column a predicted class. Entries off the diagonal are errors.

# %%
matrix = confusion_matrix(split.names, [e.label for e in split.test], predicted)
for name, counts in zip(split.names, matrix, strict=True):
    print(f"{name:>16} {counts}")
assert sum(matrix[k][k] for k in range(3)) == tuned.n_right

# %% [markdown]
# ## Padding does not change predictions
# In a batch, short texts are padded on the right. Causal attention never attends to later
# positions, and pooling ignores the padding. So the prediction for a text is the same alone and in
# a batch.

# %%
short, long = "class attributes", split.test[0].text
alone, together = loaded.probabilities([short])[0], loaded.probabilities([short, long])[0]
print(f"alone {alone.tolist()}\ntogether {together.tolist()}")
assert torch.allclose(alone, together, atol=1e-5)
