"""The scripts of the page compute the ids and the logits that Python computes."""

import base64
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import page_of_scripts, run_script
from decoder_models import CONFIGS, lively, text, whole

from groundup.base.errors import UserError
from groundup.data.protocol import ArrayTokens
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.loss import evaluate_loss
from groundup.generation.sampling import next_token_probabilities
from groundup.generation.sequence import window_start
from groundup.inspection import page_model as module
from groundup.inspection.capture import capture
from groundup.inspection.page_model import page_model, rounding_nats
from groundup.inspection.page_tokenizer import page_tokenizer
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.bpe import BPETokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import ASSISTANT, END, USER
from groundup.tokenizer.template import Message, render_prompt
from groundup.tokenizer.train_bpe import train_bpe
from groundup.tokenizer.words import WordTokenizer

TEXTS = [
    "",
    "The quick brown fox didn't jump; it'LL say \"HELLO\" 12345 times!\n\n  Twice.  ",
    "naïve café, Straße, ΑΘΗΝΑ, это проза, 中文字符, 日本語, عربى, עברית",
    "emoji 😀👩\u200d👩\u200d👧 \U0001f1fa\U0001f1f8, combining e\u0301, zero\u200bwidth",
    "no\u00a0break\u2028line\u0085next\ufeffbyte order mark \ufeff",
    " \t\n\r\n \v\f \x1c\x1d end   ",
    "it\u2019s it'\u017f we've WE'VE they'Re\u3000x½²Ⅷ 1234567",
    "def f(x):\n\treturn x**2  # ==\n" * 3,
]
LEARNED = " ".join(TEXTS) + " the cat sat on the mat, and the other cat didn't" * 20


def language_model(model: GPT, tokenizer: Tokenizer | None = None) -> LanguageModel:
    V = model.config.vocab_size
    own = tokenizer or CharacterTokenizer([chr(65 + i) for i in range(V)], special_tokens=())
    return LanguageModel(model=model, tokenizer=own, path=Path("run"))


def rounded(model: GPT, made: module.PageModel) -> GPT:
    """The same model with the weights that are in the page."""
    raw = base64.b64decode(made.weights)
    places = made.description["tensors"]
    n_floats = sum(place[1] for place in places.values())
    floats = np.frombuffer(raw, "<f4", n_floats)
    quants = np.frombuffer(raw, np.int8, offset=4 * n_floats)
    copy = GPT(model.config).eval()
    for name, parameter in copy.named_parameters():
        first, rows, *rest = places[name]
        values = floats[first : first + rows]
        if rest:
            columns, start = rest
            matrix = quants[start : start + rows * columns].reshape(rows, columns)
            values = values[:, None] * matrix
        parameter.data = torch.from_numpy(values.astype(np.float32))
    if model.config.tie_embeddings:
        copy.head.weight = copy.token_embedding.weight
    return copy


def tokenizers() -> dict[str, Any]:
    trained = train_bpe([LEARNED], 300)
    # Bytes in another order, a hole, and a special token in the middle, as imported ones may have.
    table = [*reversed(trained.token_table[:256]), b"", b"<|x|>", *trained.token_table[256:296]]
    vocab = {i: token for i, token in enumerate(table) if token}
    merges = [(trained.token_table[a], trained.token_table[b]) for a, b in trained.merges]
    return {
        "gpt2": train_bpe([LEARNED], 400, pattern="gpt2"),
        "gpt4": train_bpe([LEARNED], 400, pattern="gpt4"),
        "characters": CharacterTokenizer.from_text(LEARNED),
        "words": WordTokenizer.from_text(LEARNED[: len(LEARNED) // 2]),
        "other ids": BPETokenizer.from_bytes(vocab, merges, ["<|x|>"], pattern="gpt4"),
    }


REFUSED = {name: config for name, config in CONFIGS.items() if config.layers is not None}
SHAPES = {name: config for name, config in CONFIGS.items() if name not in REFUSED} | {
    "the default": GPTConfig(vocab_size=512),
    "windows": dataclasses.replace(CONFIGS["ours"], layers="w", window=8),
}
IDS = text(30)
LOGITS = (torch.randn(40, generator=torch.Generator().manual_seed(3)) * 2).tolist()
TURNS = [["you", "Do you love me?"], ["model", "Ay, sir."], ["you", "O, speak again!"]]
SCRIPT = (Path(__file__).parent / "scripts" / "compute.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made() -> dict[str, module.PageModel]:
    return {name: page_model(language_model(lively(config))) for name, config in SHAPES.items()}


@pytest.fixture(scope="module")
def found(made: dict[str, module.PageModel], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the scripts compute, all in one start of the browser."""
    data = {
        "models": {name: [page.description, page.weights] for name, page in made.items()},
        "ids": IDS,
        "tokenizers": {
            name: [page_tokenizer(tokenizer), [tokenizer.encode(line) for line in TEXTS]]
            for name, tokenizer in tokenizers().items()
        },
        "texts": TEXTS,
        "logits": LOGITS,
        "turns": TURNS,
        "chat_ids": [tokenizers()["gpt4"].special_tokens[name] for name in (USER, END, ASSISTANT)],
    }
    names = ("tokenizer.js", "transformer.js", "sampling.js", "generation.js", "talk.js")
    return run_script(page_of_scripts(tmp_path_factory.mktemp("js"), *names, data=data), SCRIPT)


@pytest.mark.parametrize("name", SHAPES)
def test_every_architecture_has_our_logits_and_attention(
    name: str, found: Any, made: dict[str, module.PageModel]
) -> None:
    model = lively(SHAPES[name])
    same, theirs = rounded(model, made[name]), found["models"][name]
    ours = whole(same, IDS)
    logits = torch.tensor(theirs["all"]).view_as(ours)
    torch.testing.assert_close(logits, ours, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(torch.tensor(theirs["last"]), logits[-1])
    rows = [
        [[row + [0.0] * (30 - len(row)) for row in head] for head in heads]
        for heads in theirs["attention"]
    ]
    expected = capture(same, IDS).attention
    torch.testing.assert_close(torch.tensor(rows), expected, atol=1e-5, rtol=1e-4)
    # The rounding itself is small beside the logits.
    assert (whole(model, IDS) - ours).abs().max() < 0.3 * ours.std()


@pytest.mark.parametrize("name", ["gpt2", "gpt4", "characters", "words", "other ids"])
def test_every_tokenizer_has_our_ids_and_texts(name: str, found: Any) -> None:
    tokenizer, theirs = tokenizers()[name], found["tokenizers"][name]
    ids = [tokenizer.encode(line) for line in TEXTS]
    assert theirs["ids"] == ids
    assert theirs["texts"] == [tokenizer.decode(row) for row in ids]
    assert theirs["part"] == tokenizer.decode(ids[3][1:3])
    assert theirs["special"] == tokenizer.decode(tokenizer.special_tokens.values())


def test_sampling_and_the_window_are_those_of_python(found: Any) -> None:
    logits = torch.tensor(LOGITS)
    for temperature, shares in zip((0, 0.5, 1, 1.5), found["shares"], strict=True):
        ours = next_token_probabilities(logits, temperature=temperature)
        torch.testing.assert_close(torch.tensor(shares).float(), ours, atol=1e-6, rtol=1e-5)
    nucleus = next_token_probabilities(logits, top_p=0.8)
    torch.testing.assert_close(torch.tensor(found["counts"]) / 2000, nucleus, atol=1e-3, rtol=0)
    assert found["starts"] == [window_start(n, 8) for n in (7, 8, 9, 10, 11, 30)]


def test_the_cost_of_rounding_is_the_difference_of_the_losses(
    made: dict[str, module.PageModel],
) -> None:
    model, ids = lively(CONFIGS["gpt2"]), np.array(text(200))
    before, after = (
        evaluate_loss(each, ArrayTokens(ids)).nats for each in (model, rounded(model, made["gpt2"]))
    )
    assert rounding_nats(model, ids) == pytest.approx(after - before, abs=1e-6)
    assert after != before


def test_a_conversation_is_written_as_in_training(found: Any) -> None:
    tokenizer = tokenizers()["gpt4"]
    roles = {"you": "user", "model": "assistant"}
    messages = [Message(roles[who], line) for who, line in TURNS]  # type: ignore[arg-type]
    play = "ROMEO.\nDo you love me?\n\nJULIET.\nAy, sir.\n\nROMEO.\nO, speak again!\n\nJULIET.\n"
    prose = "Do you love me?\n\nAy, sir.\n\nO, speak again!\n\n"
    assert found["talk"][0] == render_prompt(messages, tokenizer)
    assert found["talk"][1:] == [tokenizer.encode(play), tokenizer.encode(prose)]
    assert found["cues"] == ["ROMEO:", "Nurse:", "JULIET:"]
    assert found["cut"] == [
        {"said": "Ay, sir.", "isOver": True},
        {"said": "Ay,\nsir", "isOver": False},
        {"said": "", "isOver": False},
    ]


def test_what_a_page_cannot_run_is_refused_with_the_reason(monkeypatch) -> None:
    small = lively(CONFIGS["ours"])
    with pytest.raises(UserError, match="patterns gpt2 and gpt4 only"):
        page_model(language_model(small, train_bpe(["ab"], 260, pattern=r"\w+|\W")))
    for config in REFUSED.values():
        with pytest.raises(UserError, match="attention with positions only"):
            module.page_config(config)
    monkeypatch.setattr(module, "LARGEST_BYTES", 1000)
    with pytest.raises(UserError, match="The limit is"):
        page_model(language_model(small))


def test_a_new_option_of_the_architecture_is_not_ignored() -> None:
    """A field that this test does not know has to be computed in transformer.js, too."""
    assert {
        field.name for field in dataclasses.fields(GPTConfig)
    } == module._READ | module._NOT_READ
