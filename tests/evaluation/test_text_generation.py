"""Text from a model with its tokenizer: pieces, stop strings, choices, schemas and samples."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from decoder_models import CONFIGS, lively
from peers import peer
from small_corpus import write_corpus

import groundup
from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.evaluation.decoders import decoder_of
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.text_generation import choice_probabilities, token_bytes
from groundup.generation.decoder import Decoder
from groundup.generation.generate import generate
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.documents import Document
from groundup.tokenizer.train_bpe import train_bpe
from groundup.tokenizer.words import WordTokenizer
from groundup.weights.checkpoint_format import save_model

TEXT = "the cat sat on the mat, and naïve dogs sat on the cat. " * 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generation") / "run"
    tokenizer = train_bpe([TEXT], 290)
    sizes: dict[str, Any] = {"context_length": 128, "d_model": 16, "n_layers": 1, "n_heads": 2}
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, tie_embeddings=False, **sizes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # mostly tokens of letters
        model.head.weight.normal_(std=0.3, generator=generator)
        model.head.weight[:128] += 0.1
    save_model(model, folder / "checkpoints" / "step-000001")
    (folder / "checkpoints" / "latest").write_text("step-000001\n")
    tokenizer.save(folder / "tokenizer")
    write_corpus(folder / "data", [Document("a", TEXT)], [Document("b", "one two three " * 9)])
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> LanguageModel:
    return groundup.load(run)


def test_the_pieces_of_a_stream_are_the_text(model: LanguageModel) -> None:
    for seed in range(5):
        settings: dict[str, Any] = {"seed": seed, "temperature": 1.5, "top_p": None}
        pieces = list(model.stream("the", 40, **settings))
        ids = generate(
            model.model, model.tokenizer.encode("the"), 40, temperature=1.5, seed=seed,
            stop_ids=model.stop_ids,
        )  # fmt: skip
        assert (
            "".join(pieces) == model.tokenizer.decode(ids) == model.generate("the", 40, **settings)
        )
        assert len(pieces) > 5
        same = model.generate("the", 40, **settings, prompt_lookup=True)
        assert same == "".join(pieces)


def test_a_stop_string_ends_the_text(model: LanguageModel) -> None:
    whole = model.generate("the", 60, seed=3)
    for stop in (whole[10:13], whole[20:21]):
        pieces = list(model.stream("the", 60, seed=3, stop=["never", stop]))
        assert "".join(pieces) == whole[: whole.index(stop)]
    with pytest.raises(UserError, match="stop string is empty"):
        model.stream("the", 3, stop=[""])


@pytest.mark.parametrize("seed", range(5))
def test_choices_and_schemas(model: LanguageModel, seed: int) -> None:
    settings: dict[str, Any] = {"seed": seed, "temperature": 1.0 * seed}
    choices = ["yes", "no", "no, never", " naïve"]
    assert model.generate("Is it?", 30, choices=choices, **settings) in choices
    peer("llguidance")
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert isinstance(json.loads(model.generate("", 100, json_schema=schema, **settings))["a"], str)
    with pytest.raises(UserError, match="Only one of the two"):
        model.generate("", choices=choices, json_schema=schema)


@pytest.mark.parametrize("name", ["ours", "windows and all", "delta rule"])
def test_the_probabilities_of_choices_are_products_over_their_tokens(name: str) -> None:
    ids, choices = [5, 6, 7], [[1], [2, 3], [2, 4, 5]]
    model = lively(CONFIGS[name])
    found = choice_probabilities(Decoder(model), ids, choices)
    totals = []
    for choice in choices:
        with torch.inference_mode():
            logprobs = model(torch.tensor([ids + choice])).log_softmax(-1)[0]
        totals.append(sum(float(logprobs[len(ids) - 1 + i, c]) for i, c in enumerate(choice)))
    expected = torch.tensor(totals).softmax(0).tolist()
    assert found == pytest.approx(expected, rel=1e-4)


def test_words_have_the_space_before_them() -> None:
    tokenizer = WordTokenizer.from_text("It is so, is it not? Yes!")
    ids = tokenizer.encode("is it not? Yes, so!")
    text = b"".join(map(token_bytes(tokenizer), ids)).decode()
    assert text == " " + tokenizer.decode(ids)
    sizes: dict[str, Any] = {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}
    config = GPTConfig(vocab_size=tokenizer.vocab_size, **sizes)
    words = LanguageModel(GPT(config), tokenizer, Path())
    choices = ["Yes", "it is,is it", "not so!"]
    written = {words.generate("is it", choices=choices, seed=seed) for seed in range(9)}
    assert written == {" Yes", " it is, is it", " not so!"}
    for wrong in (["Yes", "No"], ["Yes", ""], ["Yes", " Yes"], "Yes"):
        with pytest.raises(UserError, match=r"cannot write the choice|empty, or occurs twice|two"):
            words.generate("is it", choices=wrong)


def test_a_decoder_is_made_once_until_a_weight_changes(model: LanguageModel) -> None:
    first = decoder_of(model.model, model.path)
    assert decoder_of(model.model, model.path) is first
    before = model.generate("the", 5, temperature=0)
    weight = model.model.head.weight
    with torch.no_grad():
        weight.neg_()
    assert decoder_of(model.model, model.path) is not first
    assert model.generate("the", 5, temperature=0) != before
    with torch.no_grad():
        weight.neg_()
    assert model.generate("the", 5, temperature=0) == before
    with pytest.raises(UserError, match=r"not quantized.*Try: quantize='int8'"):
        decoder_of(model.model, model.path, form="file")


def test_samples_together_are_those_alone(run: Path, model: LanguageModel) -> None:
    seen: list[str] = []
    config = groundup.GenerateConfig(
        run=run, prompt="the cat", samples=4, max_new_tokens=20, seed=5, logprobs=3, top_p=None,
        min_p=0.01, repetition_penalty=1.1, frequency_penalty=0.1, presence_penalty=0.1,
    )  # fmt: skip
    result = groundup.generate_samples(config, on_text=lambda *piece: seen.append(piece[2]))
    assert "".join(seen) == result.samples[0].text
    assert result.samples[1].setting == "temperature 0.8, min-p 0.01, seed 5"
    for place, sample in enumerate(result.samples):
        assert sample.text == model.generate(
            "the cat", 20, temperature=0.8 if place else 0, seed=4 + place, top_p=None, min_p=0.01,
            repetition_penalty=1.1, frequency_penalty=0.1, presence_penalty=0.1,
        )  # fmt: skip
        assert sample.finish_reason in ("stop", "length")
        for token in sample.tokens:
            assert (token.text, token.logprob) in token.top
            assert 3 <= len(token.top) <= 4
    kept = json.loads((run / "samples" / "generated.json").read_text())["samples"]
    assert kept[0]["tokens"][0]["top"][0][0] == result.samples[0].tokens[0].top[0][0]


def test_the_command_shows_choices_and_log_probabilities(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["generate", str(run), "--prompt", "the cat", "--samples", "1"]
    assert main([*common, "--choices", " sat, ran", "--logprobs", "2"]) == 0
    shown = capsys.readouterr().out
    assert "Probability of each choice" in shown
    assert "' sat'" in shown
    assert "most likely tokens" in shown
    options = ["--stop", "mat", "--stop", "dog", "--logit-bias", "5=-1.5", "--prompt-lookup"]
    options += ["--deterministic", "--quantize", "int8", "--max-new-tokens", "4"]
    assert main([*common, *options]) == 0
    assert main([*common, "--dtype", "bfloat16", "--max-new-tokens", "4"]) == 0


def test_the_command_follows_a_schema(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peer("llguidance")
    file = tmp_path / "schema.json"
    file.write_text('{"enum": ["red", 3]}')
    result = groundup.generate_samples(run=run, json_schema=file, samples=3, prompt="a")
    assert all(json.loads(sample.text) in ("red", 3) for sample in result.samples)
    for wrong, found in (("[1]", "not a JSON schema"), ("{", "JSON"), ('{"type": "foo"}', "foo")):
        file.write_text(wrong)
        assert main(["generate", str(run), "--json-schema", str(file), "--prompt", "a"]) == 1
        assert found in capsys.readouterr().err


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(run), "--prompt", "the cat sat " * 100]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "tokens, and the context of the model has 128" in said
    command = said.partition("Try: ")[2]
    assert command.startswith("groundup generate")
    assert "the cat sat" in command


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--choices", "yes"], "at least two"),
        (["--choices", "yes,,no"], "empty"),
        (["--stop", ""], "stop string is empty"),
        (["--logit-bias", "x=1"], "logit_bias"),
        (["--logit-bias", "5=--"], "logit_bias"),
        (["--logit-bias", "99999=1"], "logit_bias has the token id 99999"),
        (["--min-p", "2"], "min_p"),
        (["--repetition-penalty", "0"], "repetition_penalty"),
        (["--presence-penalty", "nan"], "presence_penalty"),
        (["--logprobs", "21"], "logprobs"),
        (["--quantize", "file"], "not quantized"),
        (["--json-schema", "absent.json"], "absent.json"),
    ],
)
def test_options_out_of_range_are_refused(
    run: Path, options: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(run), "--prompt", "the", *options]) in (1, 2)
    assert found in " ".join(capsys.readouterr().err.split())
