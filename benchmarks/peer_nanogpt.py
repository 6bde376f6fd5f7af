"""The peer of bench_time_to_loss.py: nanoGPT's published recipe for a CPU, in plain torch.

    python benchmarks/peer_nanogpt.py TRAIN VALIDATION

TRAIN and VALIDATION are arrays of token ids (.npy). 4 layers, 4 heads, 128 wide, context 64,
batches of 12, AdamW at 1e-3 with a cosine decay to 1e-4, 2,000 steps in float32. The settings are
those of nanoGPT's README and of its config/train_shakespeare_char.py; the code is our own. It is
faster than the original: fused AdamW, no evaluation during training, and no files on disk.
"""

import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

L, H, C, T, B, STEPS = 4, 4, 128, 64, 12, 2000


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(C, bias=False), nn.LayerNorm(C, bias=False)
        self.qkv, self.out = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.up, self.down = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.qkv(self.norm_1(x)).view(*x.shape[:2], 3, H, C // H).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Model(nn.Module):
    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, C), nn.Embedding(T, C)
        self.blocks, self.norm = (
            nn.Sequential(*(Block() for _ in range(L))),
            nn.LayerNorm(C, bias=False),
        )
        self.head = nn.Linear(C, vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                is_output = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * L) if is_output else 0.02)

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.tokens(inputs) + self.positions.weight)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def main(train_file: str, validation_file: str) -> None:
    torch.manual_seed(1337)
    train, validation = (torch.from_numpy(np.load(f)) for f in (train_file, validation_file))
    model = Model(1 + int(max(train.max(), validation.max())))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    window = torch.arange(T)
    for step in range(STEPS):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - 100) / (STEPS - 100)))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1) / 101 if step < 100 else 1e-4 + cosine * 9e-4
        at = torch.randint(len(train) - T, (B,))[:, None] + window
        model.loss(train[at], train[at + 1]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()
    n = (len(validation) - 1) // T
    inputs, targets = validation[: n * T].view(n, T), validation[1 : n * T + 1].view(n, T)
    with torch.no_grad():
        nats = sum(
            model.loss(inputs[i : i + 64], targets[i : i + 64]).item() * len(inputs[i : i + 64])
            for i in range(0, n, 64)
        )
    print(f"validation loss {nats / n:.4f} nats")


if __name__ == "__main__":
    main(*sys.argv[1:])
