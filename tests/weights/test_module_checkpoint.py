"""A checkpoint of any module and optimizer: the training continues bit by bit."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.train.adamw import AdamW
from groundup.weights.module_checkpoint import load_checkpoint, save_checkpoint


class Net(nn.Module):
    """A buffer, a tied weight, an unused parameter, a weight that is not contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.unused = nn.Parameter(torch.randn(3))
        self.turned = nn.Parameter(torch.randn(2, 4).t())

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.second(self.first(x))) @ self.turned


OPTIMIZERS: dict[str, Any] = {
    "ours": lambda p: AdamW(p, lr=0.01, betas=(0.8, 0.9), eps=1e-7),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "plain": lambda p: torch.optim.SGD(p, lr=0.01),
    "groups": lambda p: torch.optim.AdamW([{"params": [q], "lr": 0.1} for q in p]),
}


def train(model: nn.Module, optimizer: Any, n_steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().mean().backward()
        optimizer.step()


def make(kind: str, seed: int = 0) -> tuple[nn.Module, Any]:
    torch.manual_seed(seed)
    model = Net()
    return model, OPTIMIZERS[kind](model.parameters())


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("to_file", [False, True])
def test_training_continues_bit_by_bit(kind: str, to_file: bool, tmp_path: Path) -> None:
    model, optimizer = make(kind)
    train(model, optimizer, 3)
    if to_file:
        save_checkpoint(model, optimizer, 3, str(tmp_path / "checkpoint.pt"))
        source: Any = tmp_path / "checkpoint.pt"
    else:
        file = io.BytesIO()
        save_checkpoint(model, optimizer, 3, file)
        source = io.BytesIO(file.getvalue())
    other, its_optimizer = make(kind, seed=9)
    assert load_checkpoint(source, other, its_optimizer) == 3
    assert its_optimizer.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    for pair in ((model, optimizer), (other, its_optimizer)):
        train(*pair, 3)
    assert other.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_gpt_with_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    model = GPT(GPTConfig(vocab_size=1000, d_model=16, n_layers=1, n_heads=2))
    save_checkpoint(model, None, 0, tmp_path / "a")
    n_bytes = 4 * sum(p.numel() for p in model.parameters())
    assert n_bytes < (tmp_path / "a").stat().st_size < n_bytes + 4096
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    other = GPT(model.config, seed=5)
    assert load_checkpoint(tmp_path / "a", other) == 0
    assert torch.equal(other(torch.tensor([[1, 2]])), model(torch.tensor([[1, 2]])))


def test_a_module_that_does_not_fit_is_left_as_it_is(tmp_path: Path) -> None:
    save_checkpoint(nn.Linear(2, 3), None, 1, tmp_path / "a")
    for other in (nn.Linear(2, 4), nn.Linear(2, 3, bias=False), nn.Sequential(nn.Linear(2, 3))):
        before = {name: value.clone() for name, value in other.state_dict().items()}
        with pytest.raises(UserError, match=r"does not fit the module .* has shape"):
            load_checkpoint(tmp_path / "a", other)
        assert all(torch.equal(v, before[name]) for name, v in other.state_dict().items())
    model = nn.Linear(2, 3)
    with pytest.raises(UserError, match="no state of an optimizer"):
        load_checkpoint(tmp_path / "a", model, AdamW(model.parameters()))


def test_the_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    save_checkpoint(model, AdamW(model.parameters()), 1, tmp_path / "a")
    with pytest.raises(UserError, match="does not fit the optimizer"):
        load_checkpoint(tmp_path / "a", model, AdamW([model.weight]))


@pytest.mark.parametrize("content", [b"", b"junk" * 10, b"\xff" * 64])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    for source in (tmp_path / "a", io.BytesIO(content)):
        with pytest.raises(UserError, match="not a valid safetensors file"):
            load_checkpoint(source, nn.Linear(2, 2))
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(tmp_path / "absent", nn.Linear(2, 2))
    torch.save({"a": 1}, tmp_path / "b")
    with pytest.raises(UserError, match="not a valid safetensors file"):
        load_checkpoint(tmp_path / "b", nn.Linear(2, 2))


def test_a_state_that_is_no_plain_data_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = AdamW(model.parameters())
    optimizer.param_groups[0]["extra"] = object()
    with pytest.raises(UserError, match="contains a object"):
        save_checkpoint(model, optimizer, 1, tmp_path / "a")
    assert not (tmp_path / "a").exists()
