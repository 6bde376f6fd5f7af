"""Losses, loops and samples of chapters 4 to 7 on tiny models, and the numbers the book prints."""

import hashlib
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_book import PlainGPT, train
from torch.utils.data import DataLoader

import groundup.book as book
from groundup.base.errors import UserError
from groundup.book.training import update

CFG: dict[str, Any] = book.GPT_CONFIG_124M | {
    "vocab_size": 128, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 2,
}  # fmt: skip
TEXT = "I HAD always thought Jack Gisburn rather a cheap genius. " * 6


class Ascii:
    """A tokenizer with one id per character."""

    def encode(self, text: str, allowed_special: Any = None) -> list[int]:
        return list(text.encode("ascii"))

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("ascii")


def loader(text: str = TEXT, **options: Any) -> Any:
    sizes: dict[str, Any] = {"batch_size": 4, "max_length": 16, "stride": 16}
    return book.create_dataloader_v1(text, **sizes, tokenizer=Ascii(), **options)


def model(cls: Any = book.GPTModel, **changes: Any) -> Any:
    torch.manual_seed(123)
    return cls(CFG | changes)


def test_training_is_the_book_s_bit_for_bit() -> None:
    curves, weights = [], []
    for cls in (book.GPTModel, PlainGPT):
        net = model(cls).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
        if cls is PlainGPT:
            curves.append(train(net, loader(), optimizer, 2))
        else:
            curve = []
            for _ in range(2):
                for inputs, targets in loader():
                    optimizer.zero_grad()
                    loss = book.calc_loss_batch(inputs, targets, net, "cpu")
                    loss.backward()
                    optimizer.step()
                    curve.append(loss.item())
            curves.append(curve)
        weights.append(list(net.parameters()))
    assert curves[0] == curves[1]
    assert all(map(torch.equal, *weights))


def test_train_model_simple_prints_and_returns_what_the_book_s_does(capsys) -> None:
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
    options: dict[str, Any] = {"eval_freq": 2, "eval_iter": 1, "start_context": "I HAD"}
    val = loader(TEXT[:40], shuffle=False, drop_last=False)
    train_losses, val_losses, tokens_seen = book.train_model_simple(
        net,
        loader(),
        val,
        optimizer,
        torch.device("cpu"),
        num_epochs=2,
        tokenizer=Ascii(),
        **options,
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"Ep 1 (Step 000000): Train loss {train_losses[0]:.3f}, Val loss {val_losses[0]:.3f}"
    )
    assert lines[3].startswith("I HAD")
    assert len(lines[3]) == 5 + 50
    assert [line[:18] for line in lines[4:6]] == ["Ep 2 (Step 000006)", "Ep 2 (Step 000008)"]
    assert tokens_seen == [64 * (1 + step) for step in (0, 2, 4, 6, 8)]
    assert len(train_losses) == len(val_losses) == 5
    assert val_losses[-1] < val_losses[0]
    assert net.training


def test_the_loss_is_the_mean_over_batches() -> None:
    net, batches = model().eval(), loader(shuffle=False)
    each = [book.calc_loss_batch(x, y, net, "cpu").item() for x, y in batches]
    assert len(each) == 5
    assert book.calc_loss_loader(batches, net, "cpu") == sum(each) / 5
    assert book.calc_loss_loader(batches, net, "cpu", num_batches=2) == sum(each[:2]) / 2
    assert book.calc_loss_loader(batches, net, "cpu", num_batches=99) == sum(each) / 5
    expected = torch.nn.functional.cross_entropy(
        net(next(iter(batches))[0]).reshape(-1, 128), next(iter(batches))[1].reshape(-1)
    )
    assert each[0] == expected.item()


def test_without_batches_the_loss_is_nan_and_training_is_refused() -> None:
    net, empty = model(), loader("abc")
    assert math.isnan(book.calc_loss_loader(empty, net, "cpu"))
    assert math.isnan(book.calc_accuracy_loader(empty, net, "cpu"))
    assert all(math.isnan(x) for x in book.evaluate_model(net, empty, empty, "cpu", 5))
    optimizer = torch.optim.SGD(net.parameters())
    with pytest.raises(UserError, match="no batches"):
        book.train_model_simple(net, empty, empty, optimizer, "cpu", 1, 1, 1, "a", Ascii())
    with pytest.raises(UserError, match="no batches"):
        book.train_classifier_simple(net, empty, empty, optimizer, "cpu", 1, 1, 1)


def greedy(net: Any, ids: list[int], n: int, size: int) -> list[int]:
    for _ in range(n):
        ids = [*ids, int(net(torch.tensor([ids[-size:]]))[0, -1].argmax())]
    return ids


def test_generation() -> None:
    net, tokenizer = model().eval(), Ascii()
    prompt = book.text_to_token_ids("I HAD", tokenizer)
    assert prompt.tolist() == [[73, 32, 72, 65, 68]]
    assert book.token_ids_to_text(prompt, tokenizer) == "I HAD"
    assert book.token_ids_to_text(prompt[0], tokenizer) == "I HAD"
    out = book.generate_text_simple(net, prompt, max_new_tokens=20, context_size=16)
    assert out.tolist() == [greedy(net, prompt[0].tolist(), 20, 16)]
    assert torch.equal(book.generate(net, prompt, 20, 16), out)
    assert torch.equal(book.generate(net, prompt, 20, 16, temperature=2.0, top_k=1), out)
    short = book.generate_text_simple(net, prompt, 6, context_size=3)
    assert short.tolist() == [greedy(net, prompt[0].tolist(), 6, 3)]
    both = torch.cat((prompt, prompt + 1))
    rows = [book.generate(net, row[None], 9, 16) for row in both]
    assert torch.equal(book.generate(net, both, 9, 16, top_k=1, temperature=1.0), torch.cat(rows))


def test_sampling_draws_from_the_global_random_state() -> None:
    net, prompt = model().eval(), torch.tensor([[1, 2, 3]])
    torch.manual_seed(7)
    out = book.generate(net, prompt, 12, 16, temperature=1.4, top_k=25)
    torch.manual_seed(7)
    ids = prompt
    for _ in range(12):
        with torch.no_grad():
            logits = net(ids[:, -16:])[:, -1]
        least = logits.sort(descending=True).values[:, 24]
        logits = torch.where(logits < least, -torch.inf, logits)
        ids = torch.cat((ids, torch.multinomial((logits / 1.4).softmax(-1), 1)), dim=1)
    assert torch.equal(out, ids)
    assert torch.equal(out[:, :3], prompt)


def test_eos_ends_the_text_and_is_not_returned() -> None:
    net, prompt = model().eval(), torch.tensor([[1, 2, 3]])
    whole = book.generate(net, prompt, 8, 16)
    eos = int(whole[0, 6])
    place = whole[0, 3:].tolist().index(eos) + 3
    assert torch.equal(book.generate(net, prompt, 8, 16, eos_id=eos), whole[:, :place])


@pytest.mark.parametrize("settings", [{"top_k": 0}, {"context_size": 0}])
def test_what_cannot_be_sampled_is_refused(settings: dict) -> None:
    arguments = {"max_new_tokens": 2, "context_size": 16} | settings
    with pytest.raises(UserError, match="at least 1"):
        book.generate(model(), torch.tensor([[1]]), **arguments)
    with pytest.raises(UserError, match="no tokens"):
        book.generate(model(), torch.empty(1, 0, dtype=torch.long), 2, 16)
    assert book.generate(model(), torch.tensor([[1]]), 2, 16, top_k=10_000).shape == (1, 3)


def test_plot_losses_draws_two_curves_and_writes_no_file(tmp_path, monkeypatch) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    book.plot_losses(torch.linspace(0, 2, 3), [1, 2, 3], [3.0, 2.0, 1.0], [3.1, 2.5, 2.4])
    axes = plt.gcf().axes
    assert [line.get_label() for line in axes[0].lines] == ["Training loss", "Validation loss"]
    assert axes[1].get_xlabel() == "Tokens seen"
    assert not list(tmp_path.iterdir())
    plt.close("all")


def test_a_loader_of_any_dataset_works() -> None:
    pairs = [(torch.full((8,), i), torch.full((8,), i + 1)) for i in range(6)]
    loss = book.calc_loss_loader(DataLoader(pairs, batch_size=3), model().eval(), "cpu")  # type: ignore[arg-type]
    assert 4 < loss < 6


@pytest.mark.slow
@pytest.mark.parity
def test_the_numbers_of_chapter_5(shared_data: Path, tmp_path: Path, monkeypatch) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    for name in ("vocab.bpe", "encoder.json"):
        url = f"https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/{name}"
        cached = tmp_path / hashlib.sha1(url.encode()).hexdigest()
        shutil.copy(shared_data / "gpt2-tokenizer" / name, cached)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    text = (shared_data / "the-verdict.txt").read_text(encoding="utf-8")
    tokenizer = tiktoken.get_encoding("gpt2")
    assert (len(text), len(tokenizer.encode(text))) == (20_479, 5_145)
    cut, options = int(0.90 * len(text)), {"batch_size": 2, "max_length": 256, "stride": 256}
    torch.manual_seed(123)
    train_loader = book.create_dataloader_v1(text[:cut], **options)  # type: ignore[arg-type]
    options |= {"drop_last": False, "shuffle": False}
    val_loader = book.create_dataloader_v1(text[cut:], **options)  # type: ignore[arg-type]
    assert (len(train_loader), len(val_loader)) == (9, 1)

    torch.manual_seed(123)
    net = book.GPTModel(book.GPT_CONFIG_124M | {"context_length": 256})
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0004, weight_decay=0.1)
    before = torch.get_rng_state()
    net.eval()
    with torch.no_grad():
        losses = [book.calc_loss_loader(x, net, "cpu") for x in (train_loader, val_loader)]
    assert losses == pytest.approx([10.98758347829183, 10.98110580444336], rel=1e-6)
    ids = book.text_to_token_ids("Every effort moves you", tokenizer)
    text = book.token_ids_to_text(book.generate_text_simple(net, ids, 10, 256), tokenizer)
    assert text == "Every effort moves you rentingetic wasnم refres RexMeCHicular stren"

    torch.set_rng_state(before)
    inputs, targets = next(iter(train_loader))
    update(net.train(), optimizer, inputs, targets, "cpu")
    found = book.evaluate_model(net, train_loader, val_loader, "cpu", eval_iter=5)
    assert [f"{loss:.3f}" for loss in found] == ["9.781", "9.933"]
