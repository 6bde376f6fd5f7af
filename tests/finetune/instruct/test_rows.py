"""Rows of conversations: which tokens are trained, and what happens to those that do not fit.

Most cases are public complaints about other trainers, with the right behavior.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_templates import TEMPLATES
from foreign_models import foreign_tokenizer
from foreign_tokenizers import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import peer

from groundup.base.errors import UserError
from groundup.finetune.batches import RowBatches, sequence_loss
from groundup.finetune.instruct.chat_tokens import CHAT_TOKENS
from groundup.finetune.instruct.rows import (
    check_template,
    generation_prompt_differs,
    make_rows,
    shown_tokens,
)
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.records.rows import Conversation
from groundup.tokenizer.chat_template import ChatTemplate
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.template import Message

NAMES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
TURNS = st.lists(
    st.sampled_from(["Hi", "the cat sat", " </s> ", "naïve 日本", "2024?"]), min_size=2
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_text(json.dumps(KINDS["digits"]), encoding="utf-8")
    return load_tokenizer(folder)


def template(name: str) -> ChatTemplate:
    return ChatTemplate(TEMPLATES[name], NAMES)


def talk(*texts: str, system: str | None = None) -> Conversation:
    first = [] if system is None else [Message("system", system)]
    turns = [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
    return Conversation((*first, *turns), "a.json:1")


def trained(conversation: Conversation, tokenizer: Any, chat: ChatTemplate | None) -> list[str]:
    """The texts of the trained tokens, one for each run of them."""
    found: list[str] = []
    before = False
    for token in shown_tokens(conversation, tokenizer, chat):
        if token.is_trained:
            found = [*found[:-1], found[-1] + token.text] if before else [*found, token.text]
        before = token.is_trained
    return found


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "zephyr", "mistral", "llama2"])
def test_every_answer_and_its_end_is_trained_exactly_once(name: str, tokenizer: Any) -> None:
    """Also where the padding is the end of a text, and its name is in a message."""
    end = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}
    system = None if name == "gemma" else "Be kind."
    conversation = talk("Hi </s>", "Hello.", "the cat?", "The cat </s> sat.", system=system)
    found = trained(conversation, tokenizer, template(name))
    assert [text.strip() for text in found] == [
        f"Hello.{end.get(name, '</s>')}",
        f"The cat </s> sat.{end.get(name, '</s>')}",
    ] or [text.replace(" </s>", "</s>").strip() for text in found] == [
        "Hello.</s>",
        "The cat</s> sat.</s>",
    ]


@pytest.mark.parametrize("name", ["chatml", "llama3", "zephyr"])
def test_the_mask_is_what_is_between_two_renderings(name: str, tokenizer: Any) -> None:
    """An answer is what follows the generation prompt, up to its end: an independent way."""
    chat = template(name)
    conversation = talk("Hi", "Hello.", "the cat?", "It sat.", "again", "It sat on the mat.")
    special = set(tokenizer.special_tokens.values())
    rendered = shown_tokens(conversation, tokenizer, chat)
    ids = [token.index for token in rendered]
    expected = [0] * len(ids)
    for turn in (1, 3, 5):
        before, _ = render_ids(
            conversation.messages[:turn], tokenizer, chat, add_generation_prompt=True
        )
        start = next(n for n in range(len(before), 0, -1) if ids[:n] == before[:n])
        stop = next(i for i in range(start, len(ids)) if ids[i] in special)
        expected[start : stop + 1] = [1] * (stop + 1 - start)
    found = [int(token.is_trained) for token in rendered]
    if name == "zephyr":  # the line feed before an answer belongs to the generation prompt or not
        found, expected = ([m for m, t in zip(some, rendered, strict=True) if t.text.strip()]
                           for some in (found, expected))  # fmt: skip
    assert found == expected


@pytest.mark.parity
@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_transformers_has_the_same_mask(name: str, tmp_path: Path, tokenizer: Any) -> None:
    """With the marks of the answers that `return_assistant_tokens_mask` needs in a template."""
    transformers = peer("transformers")
    (tmp_path / "tokenizer.json").write_text(json.dumps(KINDS["digits"]), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **NAMES})
    )
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    head, end = {
        "chatml": ("'<|im_start|>' + m['role'] + '\n'", "'<|im_end|>'"),
        "llama3": ("'<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'", "'<|eot_id|>'"),
    }[name]
    body = f"m['content'] + {end}"
    marked = (
        f"{{% for m in messages %}}{{{{ {head} }}}}{{% if m['role'] == 'assistant' %}}"
        f"{{% generation %}}{{{{ {body} }}}}{{% endgeneration %}}{{% else %}}{{{{ {body} }}}}"
        "{% endif %}{{ '\n' }}{% endfor %}"
    )
    plain = f"{{% for m in messages %}}{{{{ {head} + {body} + '\n' }}}}{{% endfor %}}"
    conversation = talk("Hi", "Hello, the cat.", "and?", "In 2024.\n\n  1 \n2", system="Be kind.")
    expected = theirs.apply_chat_template(
        [vars(message) for message in conversation.messages],
        chat_template=marked,
        return_assistant_tokens_mask=True,
        return_dict=True,
    )
    ours = shown_tokens(conversation, tokenizer, ChatTemplate(plain, NAMES))
    assert [token.index for token in ours] == expected["input_ids"]
    assert [int(token.is_trained) for token in ours] == expected["assistant_masks"]


@settings(max_examples=30, deadline=None)
@given(turns=TURNS)
def test_packed_and_padded_batches_train_the_same_tokens(tokenizer: Any, turns: list[str]) -> None:
    """trl#3728, trl#3781: a packed batch lost the mask of the answers."""
    conversations = [talk(f"{text} {n}", text + ".") for n, text in enumerate(turns)]
    rows = make_rows(conversations, tokenizer, template("chatml"), 512)
    n = len(rows.rows)
    padded, packed = (
        RowBatches(rows.rows, n, layout=layout).batch(0)  # type: ignore[arg-type]
        for layout in ("padded", "packed")
    )
    counts = [int((batch[1] >= 0).sum()) for batch in (padded, packed)]
    assert counts == [rows.n_trained_tokens] * 2
    assert rows.n_trained_tokens == sum(
        token.is_trained
        for conversation in conversations
        for token in shown_tokens(conversation, tokenizer, template("chatml"))
    )


def test_packed_and_padded_batches_have_the_same_loss(tokenizer: Any) -> None:
    conversations = [talk("Hi", "Hello."), talk("the cat sat on the mat?", "No.", "and?", "Yes.")]
    rows = make_rows(conversations, tokenizer, template("chatml"), 512).rows
    model = GPT(
        GPTConfig(vocab_size=512, context_length=512, d_model=16, n_layers=2, n_heads=2), seed=1
    )
    with torch.no_grad():
        losses = [
            float(sequence_loss(model, *RowBatches(rows, 2, layout=layout).batch(0)))  # type: ignore[arg-type]
            for layout in ("padded", "packed")
        ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_an_answer_is_never_cut(tokenizer: Any) -> None:
    """trl#3927, open-instruct#1876: a row that is too long is left out whole, and counted."""
    short, long = talk("Hi", "Hello."), talk("Hi", "the cat sat " * 40)
    system = talk("Hi", "Hello.", system="Be kind. " * 40)
    rows = make_rows([short, long, system], tokenizer, template("chatml"), 120)
    assert (rows.conversations, rows.origins, rows.n_too_long) == ([short], [0], 2)
    with pytest.raises(UserError, match=r"a\.json:1: This conversation has \d+ tokens.* has 120"):
        make_rows([short, long], tokenizer, template("chatml"), 120, overlong="error")


def test_an_answer_of_three_tokens_after_a_long_prompt_survives_or_is_left_out(
    tokenizer: Any,
) -> None:
    """trl#3398: a cut from the left took the answer first."""
    conversation = talk("the cat sat on the mat " * 3, "cat")
    n = len(shown_tokens(conversation, tokenizer, template("chatml")))
    for context_length in (n - 3, n - 2, n - 1, n):
        rows = make_rows([conversation], tokenizer, template("chatml"), context_length)
        fits = context_length >= n - 1  # the last token is a target only
        assert (len(rows.rows), rows.n_too_long) == ((1, 0) if fits else (0, 1))
        if fits:
            whole = make_rows([conversation], tokenizer, template("chatml"), 1000)
            assert rows.rows == whole.rows


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8), context=st.integers(60, 160))
def test_split_turns_trains_every_answer_that_fits_exactly_once(
    tokenizer: Any, lengths: list[int], context: int
) -> None:
    turns = [t for i, n in enumerate(lengths) for t in (f"ask {i}", f"cat {i} " * n)]
    conversation = talk(*turns, system="Be kind.")
    rows = make_rows([conversation], tokenizer, template("chatml"), context, overlong="split-turns")
    answers = [m.content for c in rows.conversations for m in c.messages if m.role == "assistant"]
    alone = [talk(*turns[i : i + 2], system="Be kind.") for i in range(0, len(turns), 2)]
    fit = make_rows(alone, tokenizer, template("chatml"), context)
    assert answers == [c.answer for c in fit.conversations]
    assert rows.n_too_long == fit.n_too_long
    assert all(c.messages[0] == Message("system", "Be kind.") for c in rows.conversations)


def test_no_trained_token_is_an_error_that_names_the_record() -> None:
    """unsloth#1290: an answer that was not found gave a row without targets, and a loss of NaN."""
    ours = foreign_tokenizer(CHAT_TOKENS)
    empty = ChatTemplate("{% for m in messages %}{{ m.role }}<|user|>{% endfor %}")
    with pytest.raises(UserError, match=r"a\.json:1: No token of this record would be trained"):
        make_rows([talk("Hi", "the cat")], ours, empty, 100)


def test_templates_that_cannot_be_trained_on(tokenizer: Any) -> None:
    user_only = "{% for m in messages if m.role == 'user' %}{{ m.content }}</s>{% endfor %}"
    with pytest.raises(UserError, match="has no part for the assistant"):
        check_template(tokenizer, ChatTemplate(user_only, NAMES))
    endless = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    with pytest.raises(UserError, match="no special token at the end of an answer"):
        check_template(tokenizer, ChatTemplate(endless, NAMES))
    check_template(tokenizer, None)
    for name in TEMPLATES.keys() - {"unusual"}:
        check_template(tokenizer, template(name))


def test_a_generation_prompt_that_is_no_prefix_of_the_conversation(tokenizer: Any) -> None:
    """mlx-lm#1355: the start of the answer was found by the length of the generation prompt."""
    source = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n<think> a long beginning that no answer has </think>' }}"
        "{% endif %}"
    )
    chat = ChatTemplate(source, NAMES)
    assert trained(talk("Hi", "Yes"), tokenizer, chat) == ["Yes<|im_end|>"]
    assert generation_prompt_differs(tokenizer, chat)
    assert not generation_prompt_differs(tokenizer, template("chatml"))
    assert not generation_prompt_differs(foreign_tokenizer(CHAT_TOKENS), None)


def test_our_own_template() -> None:
    ours = foreign_tokenizer(CHAT_TOKENS)
    found = trained(talk("the dog", "the cat", "sat", "on"), ours, None)
    assert found == ["the cat<|end|>", "on<|end|>"]
    with pytest.raises(UserError, match=r"a\.json:1: .*no system messages"):
        make_rows([talk("the dog", "the cat", system="x")], ours, None, 100)
