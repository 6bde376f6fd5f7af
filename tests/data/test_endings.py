"""The token that ends a document, of tokenizers that do not have `<|endoftext|>`."""

import json
import pickle
from pathlib import Path

import pytest
from foreign_tokenizers import KINDS, TEXT

from groundup.base.errors import UserError
from groundup.data.config import ConvertConfig, EncodeConfig, PrepareAndEncodeConfig
from groundup.data.convert import convert
from groundup.data.encode import encode
from groundup.data.pipeline import prepare_and_encode
from groundup.data.store import TokenStore
from groundup.evaluation.export_tokenizer import exported_ids
from groundup.evaluation.load import LanguageModel, chat_parts
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.pretraining.data_checks import _endings
from groundup.tokenizer.extend import with_special_tokens
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.imported import ImportedTokenizer
from groundup.tokenizer.special_names import end_of_text_name
from groundup.train.data import open_data


def write_tokenizer(folder: Path, kind: str, eos_token: object = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(KINDS[kind]), encoding="utf-8")
    if eos_token is not None:
        about = json.dumps({"eos_token": eos_token, "model_max_length": 99})
        (folder / "tokenizer_config.json").write_text(about, encoding="utf-8")
    return folder


def prepare(folder: Path, tokenizer: Path, *names: str, append: bool = False) -> Path:
    for name in names or ("documents",):
        lines = (json.dumps({"text": f"{name} {i}: {TEXT[i : i + 60]}"}) for i in range(60))
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sources = tuple(str(folder / f"{name}.jsonl") for name in names or ("documents",))
    config = PrepareAndEncodeConfig(
        sources=sources, out=folder / "data", tokenizer=tokenizer, audit=False, append=append
    )
    return prepare_and_encode(config).data


@pytest.mark.parametrize("kind", ["sentencepiece", "ours"])
@pytest.mark.parametrize("eos_token", ["</s>", {"content": "</s>", "lstrip": False}])
def test_the_end_of_text_is_the_one_that_the_settings_name(
    tmp_path: Path, kind: str, eos_token: object, caplog: pytest.LogCaptureFixture
) -> None:
    data = prepare(tmp_path, write_tokenizer(tmp_path / "foreign", kind, eos_token))
    assert "ends a text" not in caplog.text
    tokenizer = load_tokenizer(data / "tokenizer")
    end = tokenizer.special_tokens["</s>"]
    store = TokenStore.open(data / "train")
    assert store.manifest["end_of_text"] == end
    starts = store.document_starts
    assert store.read(0, store.n_tokens)[[*(starts[1:] - 1), -1]].tolist() == [end] * len(starts)
    assert not list(_endings(store, open_data(data).tokenizer))

    file = convert(ConvertConfig(source=data / "train", out=tmp_path / "tokens.bin")).files[0]
    back = convert(
        ConvertConfig(
            source=file, from_format="nanogpt", to_format="store", out=tmp_path / "back",
            tokenizer=data / "tokenizer",
        )
    )  # fmt: skip
    assert back.n_documents == store.n_documents
    assert TokenStore.open(tmp_path / "back").fingerprint == store.fingerprint

    tokenizer.save(tmp_path / "again")
    copies = [load_tokenizer(tmp_path / "again"), with_special_tokens(tokenizer, ["<|new|>"])]
    if isinstance(tokenizer, ImportedTokenizer):
        copies.append(pickle.loads(pickle.dumps(tokenizer)))
    assert [end_of_text_name(copy) for copy in copies] == ["</s>"] * len(copies)


def test_no_end_of_text_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    foreign = write_tokenizer(tmp_path / "foreign", "sentencepiece")
    data = prepare(tmp_path, foreign)
    assert "names no token that ends a text" in caplog.text
    opened = open_data(data)
    (finding,) = _endings(opened.train, opened.tokenizer)
    assert "eos_token" in finding.fix
    caplog.clear()
    write_tokenizer(foreign, "sentencepiece", "not a token of it")
    encode(EncodeConfig(data=data, tokenizer=foreign))
    assert "names no token that ends a text" in caplog.text


def test_stores_with_and_without_an_end_of_text_are_not_mixed(tmp_path: Path) -> None:
    foreign = write_tokenizer(tmp_path / "foreign", "sentencepiece")
    data = prepare(tmp_path, foreign)
    plain = TokenStore.open(data / "train").n_tokens
    write_tokenizer(foreign, "sentencepiece", "</s>")
    with pytest.raises(UserError, match="already has a tokenizer"):
        encode(EncodeConfig(data=data, tokenizer=foreign))
    write_tokenizer(data / "tokenizer", "sentencepiece", "</s>")
    with pytest.raises(UserError, match="nothing was appended"):
        prepare(tmp_path, None, "documents", "more", append=True)  # type: ignore[arg-type]
    assert TokenStore.open(data / "train").n_tokens == plain
    encode(EncodeConfig(data=data))
    ended = TokenStore.open(data / "train")
    assert ended.n_tokens == plain + ended.n_documents


def test_end_of_text_comes_before_what_the_settings_name(tmp_path: Path) -> None:
    content = json.loads(json.dumps(KINDS["bytes"]))
    index = max(token["id"] for token in content["added_tokens"]) + 1
    content["added_tokens"].append(
        {**content["added_tokens"][0], "content": "<|endoftext|>", "id": index}
    )
    write_tokenizer(tmp_path, "bytes", "</s>")
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert end_of_text_name(tokenizer) == "<|endoftext|>"
    tokenizer.save(tmp_path / "again")
    assert not (tmp_path / "again" / "tokenizer_config.json").exists()


def test_generation_and_an_export_end_a_text_with_it(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, "ours", "</s>"))
    config = GPTConfig(vocab_size=tokenizer.vocab_size, d_model=8, n_heads=1, n_layers=1)
    language_model = LanguageModel(
        model=GPT(config, initialize=False),
        tokenizer=tokenizer,
        path=tmp_path,
        **chat_parts(tmp_path, tokenizer, is_assistant=False),
    )
    end = tokenizer.special_tokens["</s>"]
    assert language_model.start_ids == [end]
    assert language_model.stop_ids == (end,)
    assert exported_ids(language_model).eos == (end,)
    assert exported_ids(language_model).bos == end
