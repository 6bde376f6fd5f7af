"""The peers of bench_gpu.py, in plain torch: nanoGPT's model and step, and GPT-2 of transformers.

    python benchmarks/peer_gpu.py '{"side": "nanogpt", "train": "train.npy", ...}'

The argument is `Job` as JSON, the output one line of JSON. Model, optimizer, autocast and schedule
are those of nanoGPT's train.py (no biases, a vocabulary of a multiple of 64, fused AdamW with
weight decay on matrices, gradient clipping at 1, a cosine decay); the code is our own. Nothing is
printed or saved in the steps that are timed, and no step waits for the GPU.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(kw_only=True)
class Job:
    """What a peer computes. The defaults are GPT-2 124M."""

    side: str = "nanogpt"
    train: str = ""
    validation: str = ""
    device: str = "cuda"
    compile: bool = True
    n_layers: int = 12
    n_heads: int = 12
    d_model: int = 768
    context_length: int = 1024
    vocab_size: int = 50_304
    batch_size: int = 32
    accumulate: int = 1
    dropout: float = 0.0
    learning_rate: float = 6e-4
    beta2: float = 0.95
    steps: int = 40
    untimed: int = 10
    """The first steps are not timed: they compile and warm up."""
    evaluate_every: int = 0
    """Steps between two validations; 0: only at the end, 1,000,000: never."""


@dataclass(kw_only=True)
class Result:
    """What it found."""

    tokens_per_s: float = math.nan
    peak_bytes: int = 0
    last_loss: float = math.nan
    validations: list[tuple[int, float, float]] = field(default_factory=list)
    """Step, loss, and seconds since the process began to build the model."""


class Attention(nn.Module):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self.n_heads, self.dropout = job.n_heads, job.dropout
        self.qkv = nn.Linear(job.d_model, 3 * job.d_model, bias=False)
        self.out = nn.Linear(job.d_model, job.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_heads, C // self.n_heads).transpose(1, 2)
            for part in self.qkv(x).split(C, dim=2)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return F.dropout(self.out(y), self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, job: Job) -> None:
        super().__init__()
        C, self.dropout = job.d_model, job.dropout
        self.norm_1, self.norm_2 = nn.LayerNorm(C, bias=False), nn.LayerNorm(C, bias=False)
        self.attention = Attention(job)
        self.up, self.down = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x))
        hidden = self.down(F.gelu(self.up(self.norm_2(x))))
        return x + F.dropout(hidden, self.dropout, self.training)


class NanoGPT(nn.Module):
    def __init__(self, job: Job) -> None:
        super().__init__()
        C, self.dropout = job.d_model, job.dropout
        self.tokens = nn.Embedding(job.vocab_size, C)
        self.positions = nn.Embedding(job.context_length, C)
        self.blocks = nn.ModuleList(Block(job) for _ in range(job.n_layers))
        self.norm = nn.LayerNorm(C, bias=False)
        self.head = nn.Linear(C, job.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                is_output = name.endswith(("out.weight", "down.weight"))
                std = 0.02 / math.sqrt(2 * job.n_layers) if is_output else 0.02
                nn.init.normal_(parameter, std=std)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        positions = torch.arange(inputs.shape[1], device=inputs.device)
        x = self.tokens(inputs) + self.positions(positions)
        x = F.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


class TransformersGPT2(nn.Module):
    def __init__(self, job: Job) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "use_cache": False}
        shape = {"n_layer": job.n_layers, "n_head": job.n_heads, "n_embd": job.d_model}
        shape |= {"vocab_size": job.vocab_size, "n_positions": job.context_length}
        self.model = GPT2LMHeadModel(GPT2Config(**shape, **off))

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = self.model(inputs).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def train(job: Job) -> Result:
    began_at = time.perf_counter()
    torch.manual_seed(1337)
    torch.set_float32_matmul_precision("high")
    on_gpu = job.device == "cuda"
    model = (NanoGPT if job.side == "nanogpt" else TransformersGPT2)(job).to(job.device)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    betas = (0.9, job.beta2)
    optimizer = torch.optim.AdamW(groups, lr=job.learning_rate, betas=betas, fused=True)
    step_model = torch.compile(model) if job.compile else model
    autocast = torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext()
    read = _reader(np.load(job.train, mmap_mode="r"), job)
    result = Result()
    timed_from = 0.0
    loss = torch.zeros(())
    batch = read()
    for step in range(1, job.steps + 1):
        if step == job.untimed + 1:
            _wait(on_gpu)
            timed_from = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = job.learning_rate * _factor(step, job.steps)
        for _ in range(job.accumulate):
            with autocast:
                loss = step_model(*batch) / job.accumulate
            batch = read()  # while the GPU computes, as in nanoGPT
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if job.evaluate_every and step % job.evaluate_every == 0:
            nats = evaluate(model, job, autocast)
            result.validations.append((step, nats, time.perf_counter() - began_at))
    _wait(on_gpu)
    spent_s = time.perf_counter() - timed_from
    n_tokens = job.batch_size * job.accumulate * job.context_length * (job.steps - job.untimed)
    result.tokens_per_s = n_tokens / spent_s
    result.last_loss = loss.item() * job.accumulate
    result.peak_bytes = torch.cuda.max_memory_allocated() if on_gpu else 0
    if not job.evaluate_every:
        nats = evaluate(model, job, autocast)
        result.validations.append((job.steps, nats, time.perf_counter() - began_at))
    return result


def _factor(step: int, steps: int) -> float:
    """Linear warmup in a tenth of the run, then a cosine to a tenth."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return step / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _reader(tokens: np.ndarray, job: Job) -> Callable[[], tuple[Tensor, Tensor]]:
    generator = np.random.default_rng(1337)
    window = np.arange(job.context_length + 1)

    def read() -> tuple[Tensor, Tensor]:
        starts = generator.integers(len(tokens) - job.context_length, size=job.batch_size)
        both = torch.from_numpy(tokens[starts[:, None] + window].astype(np.int64))
        pair = both[:, :-1].contiguous(), both[:, 1:].contiguous()
        if job.device != "cuda":
            return pair
        inputs, targets = (part.pin_memory().to("cuda", non_blocking=True) for part in pair)
        return inputs, targets

    return read


@torch.no_grad()
def evaluate(model: nn.Module, job: Job, autocast: object) -> float:
    """The mean loss on the complete validation set, without `torch.compile`."""
    tokens = torch.from_numpy(np.load(job.validation).astype(np.int64))
    T = job.context_length
    n = (len(tokens) - 1) // T
    inputs, targets = tokens[: n * T].view(n, T), tokens[1 : n * T + 1].view(n, T)
    model.eval()
    total = 0.0
    for i in range(0, n, job.batch_size):
        rows = slice(i, i + job.batch_size)
        with autocast:  # type: ignore[attr-defined]
            nats = model(inputs[rows].to(job.device), targets[rows].to(job.device))
        total += nats.item() * len(inputs[rows])
    model.train()
    return total / n


def _wait(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.synchronize()


if __name__ == "__main__":
    print(json.dumps(asdict(train(Job(**json.loads(sys.argv[1]))))))
