"""Appending a single document, of which nothing lands in one of the sets."""

import json
from pathlib import Path

from groundup.data.config import PrepareAndEncodeConfig
from groundup.data.pipeline import prepare_and_encode
from groundup.tokenizer.train_bpe import train_bpe


def test_an_appended_document_may_be_in_either_set(tmp_path: Path) -> None:
    train_bpe(["the cat 1234567890. " * 20], 270).save(tmp_path / "tokenizer")

    def rows(name: str, numbers: range) -> PrepareAndEncodeConfig:
        path = tmp_path / f"{name}.jsonl"
        lines = [json.dumps({"text": f"the cat {i}. " * 20}) for i in numbers]
        path.write_text("\n".join(lines) + "\n")
        return PrepareAndEncodeConfig(
            sources=(str(path),),
            out=tmp_path / "data",
            tokenizer=tmp_path / "tokenizer",
            append=name != "first",
        )

    prepare_and_encode(rows("first", range(1100)))
    for n in range(3):
        report = prepare_and_encode(rows(f"one-{n}", range(2000 + n, 2001 + n)))
        assert report.train.n_documents + report.validation.n_documents == 1101 + n
