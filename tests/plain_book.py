"""The model and the loop of the book, written again in one piece, to compare with.

What must be equal are the names of the weights, the order of the random draws and the order of the
floating-point operations; nothing is imported from the package.
"""

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    mask: Tensor

    def __init__(self, width: int, length: int, heads: int, drop: float, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.W_query = nn.Linear(width, width, bias=bias)
        self.W_key = nn.Linear(width, width, bias=bias)
        self.W_value = nn.Linear(width, width, bias=bias)
        self.out_proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(drop)
        later = torch.arange(length)[None, :] > torch.arange(length)[:, None]
        self.register_buffer("mask", later.float())

    def forward(self, x: Tensor) -> Tensor:
        rows, positions, width = x.shape
        split = (rows, positions, self.heads, width // self.heads)
        k = self.W_key(x).reshape(split).permute(0, 2, 1, 3)
        q = self.W_query(x).reshape(split).permute(0, 2, 1, 3)
        v = self.W_value(x).reshape(split).permute(0, 2, 1, 3)
        scores = torch.matmul(q, k.permute(0, 1, 3, 2))
        scores[..., self.mask[:positions, :positions] == 1] = -math.inf
        weights = self.dropout((scores / (width // self.heads) ** 0.5).softmax(-1))
        joined = torch.matmul(weights, v).permute(0, 2, 1, 3).flatten(2)
        return self.out_proj(joined)


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return self.scale * ((x - mean) / (variance + 1e-5).sqrt()) + self.shift


class Gelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        # The root of a tensor: on some processors its last bit is not that of math.sqrt.
        half, root = 0.5 * x, torch.tensor(2.0 / math.pi).sqrt()
        return half * (1 + (root * (x + 0.044715 * x.pow(3))).tanh())


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), Gelu(), nn.Linear(4 * width, width)
        )


class Layer(nn.Module):
    def __init__(self, cfg: dict) -> None:
        super().__init__()
        width, drop = cfg["emb_dim"], cfg["drop_rate"]
        self.att = Attention(width, cfg["context_length"], cfg["n_heads"], drop, cfg["qkv_bias"])
        self.ff = Net(width)
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.drop_shortcut = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop_shortcut(self.att(self.norm1(x))) + x
        return self.drop_shortcut(self.ff.layers(self.norm2(x))) + x


class PlainGPT(nn.Module):
    def __init__(self, cfg: dict) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(cfg["vocab_size"], cfg["emb_dim"])
        self.pos_emb = nn.Embedding(cfg["context_length"], cfg["emb_dim"])
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.Sequential(*(Layer(cfg) for _ in range(cfg["n_layers"])))
        self.final_norm = Norm(cfg["emb_dim"])
        self.out_head = nn.Linear(cfg["emb_dim"], cfg["vocab_size"], bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tok_emb(ids) + self.pos_emb(torch.arange(ids.shape[1]))
        return self.out_head(self.final_norm(self.trf_blocks(self.drop_emb(x))))


def train(model, loader, optimizer, epochs: int) -> list[float]:
    """The loss of every batch before its update."""
    losses = []
    for _ in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            logits = model(inputs)
            loss = nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
            )
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses
