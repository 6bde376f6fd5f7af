"""Scripts in the style of chapters 2, 6 and 7, with the names imported from groundup.book."""

import csv
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import groundup.book as book
from groundup.base.errors import UserError

CFG: dict[str, Any] = book.GPT_CONFIG_124M | {
    "vocab_size": 128, "context_length": 32, "emb_dim": 16, "n_heads": 2, "n_layers": 2,
    "drop_rate": 0.0,
}  # fmt: skip
TEXT = "Hello, do you like tea? In the sunlit terraces of the palace: yes; she said. " * 4


class Ascii:
    def encode(self, text: str, allowed_special: Any = None) -> list[int]:
        return list(text.encode("ascii"))

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("ascii")


def test_chapter_2_the_vocabulary_and_the_simple_tokenizers() -> None:
    parts = re.split(r'([,.:;?_!"()\']|--|\s)', TEXT)
    words = sorted({part.strip() for part in parts if part.strip()})
    vocab = {word: index for index, word in enumerate(words)}
    first = book.SimpleTokenizerV1(vocab)
    assert first.decode(first.encode("Hello, do you like tea?")) == "Hello, do you like tea?"
    assert first.str_to_int[first.int_to_str[3]] == 3
    assert first.decode(first.encode("the palace: yes; tea")) == "the palace : yes ; tea"
    for error in (KeyError, UserError):
        with pytest.raises(error, match=r"^The word 'coffee' is not in the vocabulary"):
            first.encode("coffee")
    for special in ("<|endoftext|>", "<|unk|>"):
        vocab[special] = len(vocab)
    second = book.SimpleTokenizerV2(vocab)
    joined = "Hello, do you like coffee? <|endoftext|> the palace: yes; tea"
    assert second.decode(second.encode(joined)) == joined.replace("coffee", "<|unk|>")
    dataset = book.GPTDatasetV1(TEXT, second, 4, 4)
    assert second.decode(dataset[0][0].tolist()) == "Hello, do you"


def test_chapter_2_the_verdict(shared_data: Path) -> None:
    text = (shared_data / "the-verdict.txt").read_text(encoding="utf-8")
    parts = re.split(r'([,.:;?_!"()\']|--|\s)', text)
    words = [part.strip() for part in parts if part.strip()]
    assert len(words) == 4690
    vocab = {word: index for index, word in enumerate(sorted(set(words)))}
    assert len(vocab) == 1130
    tokenizer = book.SimpleTokenizerV1(vocab)
    quote = '"It\'s the last he painted, you know," Mrs. Gisburn said with pardonable pride.'
    assert tokenizer.encode(quote)[:8] == [1, 56, 2, 850, 988, 602, 533, 746]
    assert tokenizer.decode(tokenizer.encode(quote)).startswith("\" It' s the last he painted, you")


def test_chapter_2_embeddings() -> None:
    loader = book.create_dataloader_v1(
        TEXT, batch_size=8, max_length=4, stride=4, shuffle=False, tokenizer=Ascii()
    )
    data_iter = iter(loader)
    inputs, targets = next(data_iter)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    token_embeddings = nn.Embedding(128, 256)(inputs)
    embeddings = token_embeddings + nn.Embedding(4, 256)(torch.arange(4))
    assert embeddings.shape == (8, 4, 256)
    assert not torch.equal(next(data_iter)[0], inputs)


def spam_file(path: Path) -> Path:
    rows = [
        (i % 2, ("win cash, now" if i % 2 else 'see you "soon",\nok') + "!" * (i % 3))
        for i in range(24)
    ]
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("Label", "Text"), *rows])
    return path


def test_chapter_6_the_dataset(tmp_path: Path) -> None:
    train = book.SpamDataset(csv_file=spam_file(tmp_path / "train.csv"), max_length=None,
                             tokenizer=Ascii())  # fmt: skip
    longest = len('see you "soon",\nok!!')
    assert train.max_length == longest
    ids, label = train[0]
    assert label.item() == 0
    assert ids.tolist() == [*b'see you "soon",\nok', 50256, 50256]
    assert ids.dtype == label.dtype == torch.int64
    short = book.SpamDataset(tmp_path / "train.csv", Ascii(), max_length=5, pad_token_id=0)
    assert [bytes(x.tolist()) for x, _ in (short[0], short[1])] == [b"see y", b"win c"]
    inputs, labels = next(iter(DataLoader(train, batch_size=8, drop_last=True)))
    assert inputs.shape == (8, longest)
    assert labels.tolist() == [0, 1] * 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Label,Text\nham,hello\n", "column Label of whole numbers"),
        (b"Label\n1\n", "column Label of whole numbers"),
        (b"a,b\n1,c\n", "column Label of whole numbers"),
        (b"Label,Text\n0,Hello, how are you\n", "This row has 3 columns"),
        (b"Label,Text\n0,caf\xe9\n", "latin-1"),
    ],
)
def test_chapter_6_a_file_of_other_rows_is_refused(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.csv.*{words}"):
        book.SpamDataset(path, Ascii())
    with pytest.raises(UserError, match=r"missing\.csv"):
        book.SpamDataset(tmp_path / "missing.csv", Ascii())


def test_chapter_6_a_spam_classifier(tmp_path: Path, capsys) -> None:
    data = book.SpamDataset(spam_file(tmp_path / "train.csv"), Ascii(), pad_token_id=0)
    torch.manual_seed(123)
    loader = DataLoader(data, batch_size=8, shuffle=True, drop_last=True)
    model = book.GPTModel(CFG)
    for param in model.parameters():
        param.requires_grad = False
    model.out_head = nn.Linear(in_features=CFG["emb_dim"], out_features=2)
    for part in (model.trf_blocks[-1], model.final_norm):
        for param in part.parameters():
            param.requires_grad = True
    inputs, labels = next(iter(loader))
    expected = nn.functional.cross_entropy(model(inputs)[:, -1, :], labels)
    assert book.calc_loss_batch(inputs, labels, model, "cpu").item() == expected.item()
    optimizer = torch.optim.AdamW(
        filter(lambda p: p.requires_grad, model.parameters()), lr=0.01, weight_decay=0.1
    )
    train_losses, val_losses, train_accs, val_accs, examples_seen = book.train_classifier_simple(
        model, loader, loader, optimizer, "cpu", num_epochs=4, eval_freq=2, eval_iter=3
    )
    assert examples_seen == 96
    assert len(train_losses) == len(val_losses) == 6
    assert train_losses[-1] < train_losses[0]
    assert len(train_accs) == 4
    assert val_accs[-1] == book.calc_accuracy_loader(loader, model, "cpu") == 1.0
    assert "Training accuracy: 100.00% | Validation accuracy: 100.00%" in capsys.readouterr().out
    classify = partial(
        book.classify_review, model=model, tokenizer=Ascii(), device="cpu",
        max_length=data.max_length, pad_token_id=0,
    )  # fmt: skip
    assert [classify("win cash, now"), classify('see you "soon",\nok')] == ["spam", "not spam"]
    assert classify("win cash, now" * 9) in ("spam", "not spam")


RECORDS = [
    {"instruction": "Add.", "input": "1, 2", "output": "3"},
    {"instruction": "Say hello.", "input": "", "output": "Hello!"},
    {"instruction": "Name a color.", "input": "", "output": "Blue, or perhaps green."},
]


def test_chapter_7_the_prompt_and_the_dataset() -> None:
    start = (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\n"
    )
    assert book.format_input(RECORDS[0]) == f"{start}Add.\n\n### Input:\n1, 2"
    assert book.format_input(RECORDS[1]) == f"{start}Say hello."
    data = book.InstructionDataset(RECORDS, Ascii())
    assert len(data) == 3
    assert Ascii().decode(data[1]) == f"{start}Say hello.\n\n### Response:\nHello!"


def test_chapter_7_the_batches_are_the_printed_ones() -> None:
    batch = ([0, 1, 2, 3, 4], [5, 6], [7, 8, 9])
    inputs, targets = book.custom_collate_fn(batch)
    assert inputs.tolist() == [
        [0, 1, 2, 3, 4],
        [5, 6, 50256, 50256, 50256],
        [7, 8, 9, 50256, 50256],
    ]
    assert targets.tolist() == [
        [1, 2, 3, 4, 50256],
        [6, 50256, -100, -100, -100],
        [8, 9, 50256, -100, -100],
    ]
    inputs, targets = book.custom_collate_fn(batch, 0, ignore_index=-1, allowed_max_length=3)
    assert inputs.tolist() == [[0, 1, 2], [5, 6, 0], [7, 8, 9]]
    assert targets.tolist() == [[1, 2, 3], [6, 0, -1], [8, 9, 0]]


def test_chapter_7_instruction_tuning(capsys) -> None:
    torch.manual_seed(123)
    collate = partial(book.custom_collate_fn, device="cpu", allowed_max_length=32, pad_token_id=0)
    loader = DataLoader(
        book.InstructionDataset(RECORDS, Ascii()), batch_size=3, collate_fn=collate, shuffle=True
    )
    model = book.GPTModel(CFG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.1)
    losses, *_ = book.train_model_simple(
        model, loader, loader, optimizer, "cpu", num_epochs=2, eval_freq=1, eval_iter=1,
        start_context=book.format_input(RECORDS[0])[:20], tokenizer=Ascii(),
    )  # fmt: skip
    assert losses[-1] < losses[0]
    ids = book.generate(
        model, book.text_to_token_ids("Hi", Ascii()), max_new_tokens=6, context_size=32, eos_id=0
    )
    assert book.token_ids_to_text(ids, Ascii()).startswith("Hi")
