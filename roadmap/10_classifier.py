# %% [markdown]
# # 10. A classifier
#
# A classifier assigns a label to a text. To turn a language model into a classifier, keep the
# model, replace the head over the vocabulary by a head over the classes, and fine-tune with the
# same training loop. The task in this tutorial needs no annotation: which document is a passage
# from?

# %%
import math
from itertools import count

import torch

from groundup.base.targets import IGNORE_INDEX
from groundup.evaluation.intervals import wilson
from groundup.evaluation.paired import paired_bootstrap
from groundup.finetune.batches import RowBatches, label_row
from groundup.finetune.classify.baselines import CHARACTERS, TfidfClassifier, class_frequencies
from groundup.finetune.classify.calibration import losses
from groundup.finetune.classify.classifier import LoadedClassifier
from groundup.finetune.classify.heads import Classifier
from groundup.finetune.classify.passages import passages_by_source
from groundup.finetune.classify.result import confusion_matrix
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.builtin import python_reference
from groundup.tokenizer.train_bpe import train_bpe
from groundup.train.loop import train_steps
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.schedule import Schedule

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
# Two baselines to compare with: the frequencies of the classes, and a logistic regression on groups
# of two to five characters, ignoring their order. The log loss, -ln of the probability of the true
# class, separates classifiers better than the accuracy.

# %%
n = len(split.test)
train, test = [e.text for e in split.train], [e.text for e in split.test]
targets = [split.index(e.label) for e in split.train]
truth = [split.index(e.label) for e in split.test]
majority = class_frequencies(targets, 3, n)
tfidf = TfidfClassifier(CHARACTERS).fit(train, targets).probabilities(test)
for name, p in (("majority class", majority), ("character TF-IDF", tfidf)):
    n_right = int((p.argmax(axis=1) == truth).sum())
    print(f"{name:<16} log loss {losses(p, truth).mean():.3f}, {wilson(n_right, n)}")
assert losses(tfidf, truth).mean() < losses(majority, truth).mean()

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
batches = RowBatches(rows, 16, seed=0)
ids, labels = batches.batch(0)
first_loss = float(classifier.loss(ids, labels).detach())
print(f"one batch: {tuple(ids.shape)}, first loss {first_loss:.3f}, ln 3 = {math.log(3):.3f}")
assert math.isclose(first_loss, math.log(3), rel_tol=1e-5)
assert (labels != IGNORE_INDEX).sum() == len(labels), "one label per passage"

# %% [markdown]
# ## Fine-tune
# The training loop is the same as in pretraining.

# %%
optimizer = Optimizer(
    classifier, OptimizerConfig(name="adamw", learning_rate=0.002, weight_decay=0.0)
)
endless = (batches.batch(k) for k in count())
schedule = Schedule(n_steps=100, warmup_steps=10, decay="linear")
classifier.train()
steps = list(train_steps(endless, classifier.loss, optimizer, schedule))
classifier.eval()
print(f"loss {steps[0].loss_nats:.3f} -> {steps[-1].loss_nats:.3f} in {steps[-1].elapsed_s:.1f} s")

loaded = LoadedClassifier(classifier, tokenizer)
tuned = loaded.probabilities(test).numpy()
predicted = [split.names[k] for k in tuned.argmax(axis=1)]
n_right = int((tuned.argmax(axis=1) == truth).sum())
print(f"tuned model      log loss {losses(tuned, truth).mean():.3f}, {wilson(n_right, n)}")
difference = paired_bootstrap(losses(tuned, truth), losses(tfidf, truth))
print(f"tuned model minus TF-IDF: {difference.mean:+.3f} [{difference.low:+.3f}, ", end="")
print(f"{difference.high:+.3f}], clear: {difference.is_clear}")
assert losses(tuned, truth).mean() < losses(majority, truth).mean()

# %% [markdown]
# ## Confusion matrix
# Each row is a true class, each column a predicted class. Entries off the diagonal are errors.

# %%
matrix = confusion_matrix(split.names, [e.label for e in split.test], predicted)
for name, counts in zip(split.names, matrix, strict=True):
    print(f"{name:>16} {counts}")
assert sum(matrix[k][k] for k in range(3)) == n_right

# %% [markdown]
# ## Padding does not change predictions
# In a batch, short texts are padded on the right. Causal attention never attends to later
# positions, and pooling ignores the padding. So the prediction for a text is the same alone and in
# a batch. `groundup classify` also computes each text in a batch of a fixed shape, because sums in
# another order differ in the last digits.

# %%
short, long = "class attributes", split.test[0].text
alone, together = loaded.probabilities([short])[0], loaded.probabilities([short, long])[0]
print(f"alone {alone.tolist()}\ntogether {together.tolist()}")
assert torch.allclose(alone, together, atol=1e-5)
