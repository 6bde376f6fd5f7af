# %% [markdown]
# # 11. A personal assistant
#
# A foundation model continues; an assistant answers. What makes the difference is a form (who
# speaks, and where a turn ends) and examples in that form, of which only the answers are learnt.

# %%
from functools import partial

from groundup.base.targets import IGNORE_INDEX
from groundup.chat.session import ChatSession
from groundup.evaluation.intervals import wilson
from groundup.finetune.batches import RowLoader, language_row
from groundup.finetune.foundation import tune
from groundup.finetune.instruct.answers import answer_all
from groundup.finetune.instruct.instruct import conversation
from groundup.finetune.instruct.lessons import grade, make_lessons
from groundup.generation.engine import stream
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.builtin import python_reference
from groundup.tokenizer.special import END
from groundup.tokenizer.template import Message, render_prompt
from groundup.tokenizer.train_bpe import train_bpe
from groundup.train.optimizer import Optimizer

# %% [markdown]
# ## Lessons about the text, each with a grader
# The questions are simple enough that a program knows the right answer. No held-out prompt is
# among the training prompts. To be quick, this walk keeps two of the kinds.

# %%
texts = [document.text for document in python_reference()]
train, test = make_lessons(texts[:60], texts[60:], n_train=9000, n_test_per_kind=40, seed=0)
KINDS = ("how many", "last word")
train = [record for record in train if record.kind in KINDS]
test = [record for record in test if record.kind in KINDS]
for record in test[:2]:
    print(f"{record.prompt}\n  -> {record.output}")
assert not {r.prompt for r in train} & {r.prompt for r in test}
assert grade(test[0], test[0].output)
assert not grade(test[0], "I do not know.")

# %% [markdown]
# ## The template, and the mask
# Special tokens stand around each turn. The mask is 1 on the answer and on its end: only these are
# targets of the loss. The question is read, not learnt.

# %%
tokenizer = train_bpe([f" {r.prompt}\n {r.output}" for r in train], 1024)
ids, mask = conversation(test[0], tokenizer)
for token, learnt in zip(ids, mask, strict=True):
    print(f"{token:5} {tokenizer.decode([token])!r:16} {'learnt' if learnt else ''}")
row = language_row(ids, mask, 48)
assert row is not None
targets = [target for target in row[1] if target != IGNORE_INDEX]
assert targets[-1] == tokenizer.special_tokens[END], "it learns to stop"
assert len(targets) == sum(mask) < len(ids)

# %% [markdown]
# ## Before and after
# A small model without pretraining (`groundup instruct RUN` starts from a trained one) answers the
# held-out prompts, is tuned by the one loop, and answers them again.

# %%
config = GPTConfig(
    vocab_size=tokenizer.vocab_size, context_length=48, d_model=64, n_layers=2, n_heads=2
)
model = GPT(config, seed=1)
prompts = [render_prompt([Message("user", r.prompt)], tokenizer) for r in test]
stops = {tokenizer.special_tokens[END]}


def n_right() -> int:
    answers = answer_all(model, prompts, 12, stop_ids=stops)
    return sum(grade(r, tokenizer.decode(ids)) for r, ids in zip(test, answers, strict=True))


before = wilson(n_right(), len(test))
conversations = (conversation(r, tokenizer) for r in train)
rows = [row for c in conversations if (row := language_row(*c, 48)) is not None]
optimizer = Optimizer(model, learning_rate=0.02, table_learning_rate=0.01)
batches = iter(RowLoader(rows, batch_size=32, seed=0))
steps = tune(model, batches, model.loss, optimizer, n_steps=150, on_step=None)
after = wilson(n_right(), len(test))
print(f"loss {steps[0].loss_nats:.2f} -> {steps[-1].loss_nats:.2f} in {steps[-1].elapsed_s:.1f} s")
print(f"before {before}\nafter  {after}")
assert after.low > before.high, "it has learnt to answer what it has not seen"

# %% [markdown]
# ## Talk to it
# The chat renders with the very same template, streams the answer and stops at its end. Asked
# something it was never taught, it answers in the few sentences it knows, and is wrong.

# %%
session = ChatSession(
    partial(stream, model, temperature=0.0), tokenizer, context_length=48, max_new_tokens=12
)
for question in (test[0].prompt, "What is love?"):
    print(f"you > {question}\n    > {''.join(session.ask(question))}")
assert [message.role for message in session.messages[-2:]] == ["user", "assistant"]
