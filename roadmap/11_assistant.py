# %% [markdown]
# # 11. A personal assistant
#
# A foundation model continues a text; an assistant answers. Two things make the difference: a chat
# template, which marks the speaker and the end of each turn, and fine-tuning on examples in this
# template, with the loss computed on the answers only.

# %%
from functools import partial
from itertools import count

from groundup.base.targets import IGNORE_INDEX
from groundup.chat.session import ChatSession
from groundup.evaluation.intervals import wilson
from groundup.finetune.batches import RowBatches, language_row
from groundup.finetune.instruct.synthetic import grade, make_synthetic_records
from groundup.generation.generate import generate, stream
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.builtin import python_reference
from groundup.tokenizer.special import END
from groundup.tokenizer.template import Message, render, render_prompt
from groundup.tokenizer.train_bpe import train_bpe
from groundup.train.loop import train_steps
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.schedule import Schedule

# %% [markdown]
# ## Questions about the text, with graders
# The questions are simple enough that a program can check the answers. No test prompt is among the
# training prompts. To save time, this tutorial uses only two kinds of question.

# %%
texts = [document.text for document in python_reference()]
train, test = make_synthetic_records(
    texts[:60], texts[60:], n_train=9000, n_test_per_kind=40, seed=0
)
KINDS = ("how many", "last word")
train = [record for record in train if record.kind in KINDS]
test = [record for record in test if record.kind in KINDS]
for record in test[:2]:
    print(f"{record.prompt}\n  -> {record.output}")
assert not {r.prompt for r in train} & {r.prompt for r in test}
assert grade(test[0], test[0].output)
assert not grade(test[0], "I do not know.")

# %% [markdown]
# ## The chat template and the loss mask
# Special tokens mark the start and the end of each turn. The mask is 1 for the answer and its end
# token: only these are targets of the loss. The question is input only.

# %%
tokenizer = train_bpe([f" {r.prompt}\n {r.output}" for r in train], 1024)
ids, mask = render(test[0].messages, tokenizer)
for token, is_target in zip(ids, mask, strict=True):
    print(f"{token:5} {tokenizer.decode([token])!r:16} {'target' if is_target else ''}")
row = language_row(ids, mask, 48)
assert row is not None
targets = [target for target in row[1] if target != IGNORE_INDEX]
assert targets[-1] == tokenizer.special_tokens[END], "it learns to stop"
assert len(targets) == sum(mask) < len(ids)

# %% [markdown]
# ## Fine-tune and measure
# This small model is not pretrained (`groundup instruct RUN` starts from a trained one). It answers
# the test prompts before and after fine-tuning.

# %%
config = GPTConfig(
    vocab_size=tokenizer.vocab_size, context_length=48, d_model=64, n_layers=2, n_heads=2
)
model = GPT(config, seed=1)
prompts = [render_prompt([Message("user", r.prompt)], tokenizer) for r in test]
stops = {tokenizer.special_tokens[END]}


def n_right() -> int:
    answers = [generate(model, ids, 12, temperature=0.0, stop_ids=stops) for ids in prompts]
    return sum(grade(r, tokenizer.decode(ids)) for r, ids in zip(test, answers, strict=True))


before = wilson(n_right(), len(test))
conversations = (render(r.messages, tokenizer) for r in train)
rows = [row for c in conversations if (row := language_row(*c, 48)) is not None]
optimizer = Optimizer(
    model,
    OptimizerConfig(
        learning_rate=0.02,
        embedding_learning_rate=0.01,
        norm_learning_rate=None,
        weight_decay=0.0,
    ),
)
loader = RowBatches(rows, 32, seed=0)
batches = (loader.batch(k) for k in count())
schedule = Schedule(n_steps=150, warmup_steps=10, decay="linear")
steps = list(train_steps(batches, model.loss, optimizer, schedule, max_grad_norm=1.0))
after = wilson(n_right(), len(test))
print(f"loss {steps[0].loss_nats:.2f} -> {steps[-1].loss_nats:.2f} in {steps[-1].elapsed_s:.1f} s")
print(f"before {before}\nafter  {after}")
assert after.low > before.high, "it answers prompts that it was not trained on"

# %% [markdown]
# ## Chat
# The chat uses the same template, streams the answer and stops at the end token. A question of a
# kind that is not in the training data gets an answer in one of the learned forms, and it is wrong.

# %%
session = ChatSession(
    partial(stream, model, temperature=0.0), tokenizer, context_length=48, max_new_tokens=12
)
for question in (test[0].prompt, "What is love?"):
    print(f"you > {question}\n    > {''.join(session.ask(question))}")
assert [message.role for message in session.messages[-2:]] == ["user", "assistant"]
