"""nanoGPT's GPT: its names of classes, arguments and weights, its draws, and our layers.

`torch.manual_seed` before `GPT(config)` gives the weights that nanoGPT has with this seed, and
dropout and `generate` draw in its order.
"""

from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import groundup.model.gpt
from groundup.base.errors import UserError
from groundup.model.gpt import check_ids
from groundup.model.layers import Embedding, Linear, softmax
from groundup.model.loss import cross_entropy
from groundup.nanogpt.blocks import Block, GPTConfig, LayerNorm
from groundup.nanogpt.convert import to_ours, to_theirs
from groundup.train.adamw import AdamW
from groundup.weights.huggingface_folder import import_huggingface

_STD = 0.02
_A100_FLOPS_PER_S = 312e12


class GPT(nn.Module):
    """nanoGPT's model. `groundup.nanogpt.to_gpt` makes a `groundup.GPT` of it.

    >>> model = GPT(GPTConfig(block_size=8, vocab_size=11, n_layer=1, n_head=2, n_embd=16))
    >>> logits, loss = model(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, -1]]))
    >>> logits.shape, loss.ndim
    (torch.Size([1, 3, 11]), 0)
    """

    transformer: Any

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            {
                "wte": Embedding(config.vocab_size, config.n_embd),
                "wpe": Embedding(config.block_size, config.n_embd),
                "drop": nn.Dropout(config.dropout),
                "h": nn.ModuleList(Block(config) for _ in range(config.n_layer)),
                "ln_f": LayerNorm(config.n_embd, bias=config.bias),
            }
        )
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=_STD / (2 * config.n_layer) ** 0.5)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=_STD)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def get_num_params(self, non_embedding: bool = True) -> int:
        """Count the parameters, without the position embedding if `non_embedding`."""
        n = sum(parameter.numel() for parameter in self.parameters())
        n_positions: int = self.transformer.wpe.weight.numel()
        return n - n_positions if non_embedding else n

    def forward(
        self, idx: Tensor, targets: Int[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B t V"], Float[Tensor, ""] | None]:
        """Compute logits and, with targets, the loss.

        Args:
            idx: Token ids, (B, T) int64.
            targets: The id after each of them; -1 is ignored.

        Returns:
            The logits of all positions and the mean loss in nats; without targets the logits of the
            last position, (B, 1, V), and None.

        Raises:
            UserError: `check_ids` refuses the ids.
        """
        config = self.config
        check_ids(idx, vocab_size=config.vocab_size, context_length=config.block_size)
        positions = self.transformer.wpe.weight[: idx.shape[1]]  # (T, C)
        x = self.transformer.drop(self.transformer.wte(idx) + positions)  # (B, T, C)
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        if targets is None:
            return self.lm_head(x[:, -1:]), None
        logits = self.lm_head(x)  # (B, T, V)
        return logits, cross_entropy(logits, targets, ignore_index=-1)

    @torch.no_grad()
    def generate(
        self,
        idx: Int[Tensor, "B T"],
        max_new_tokens: int,
        temperature: float | int = 1.0,
        top_k: int | None = None,
    ) -> Int[Tensor, "B more"]:
        """Append new tokens, each drawn given the last `block_size` tokens before it.

        The caller sets evaluation mode. The draws are from torch's global random state.

        Args:
            idx: The prompts.
            max_new_tokens: Number of new tokens.
            temperature: Divides the logits.
            top_k: Draw from this many most likely tokens. None: from all.

        Returns:
            The prompts with the new tokens.
        """
        for _ in range(max_new_tokens):
            logits = self(idx[:, -self.config.block_size :])[0][:, -1] / temperature  # (B, V)
            if top_k is not None:
                least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
                logits = logits.masked_fill(logits < least, -torch.inf)
            idx = torch.cat((idx, torch.multinomial(softmax(logits), 1)), dim=1)
        return idx

    def crop_block_size(self, block_size: int) -> None:
        """Drop the positions from `block_size` on.

        Raises:
            UserError: The model has fewer positions.
        """
        if not 1 <= block_size <= self.config.block_size:
            raise UserError(
                f"block_size is {block_size}. A number from 1 to {self.config.block_size} is "
                "expected."
            )
        self.config.block_size = block_size
        self.transformer.wpe.weight = nn.Parameter(self.transformer.wpe.weight[:block_size])

    def configure_optimizers(
        self,
        weight_decay: float | int,
        learning_rate: float | int,
        betas: tuple[float, float],
        device_type: str = "cpu",
    ) -> AdamW:
        """Build AdamW, with weight decay for the matrices and embeddings only.

        Args:
            weight_decay: Fraction of each weight that is subtracted per step, times the rate.
            learning_rate: The learning rate.
            betas: Decay rates of the averages of the gradient and of its square.
            device_type: Not used: the kernel is fused on every device.
        """
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=learning_rate, betas=betas)

    def estimate_mfu(self, fwdbwd_per_iter: float | int, dt: float) -> float:
        """Estimate the FLOPs per second as a fraction of an A100's in bfloat16.

        Args:
            fwdbwd_per_iter: Sequences per iteration.
            dt: Seconds per iteration.

        Source: "PaLM: Scaling Language Modeling with Pathways", appendix B.
        """
        c = self.config
        head = c.n_embd // c.n_head
        flops_per_token = 6 * self.get_num_params()
        flops_per_token += 12 * c.n_layer * c.n_head * head * c.block_size
        return flops_per_token * c.block_size * fwdbwd_per_iter / dt / _A100_FLOPS_PER_S

    @classmethod
    def from_pretrained(
        cls, model_type: str | PathLike[str], override_args: dict[str, Any] | None = None
    ) -> "GPT":
        """Read GPT-2's weights from a folder in the format of Hugging Face; nothing is downloaded.

        Its GELU is the tanh form, with which the weights were trained.

        Args:
            model_type: The folder, with config.json and model.safetensors.
            override_args: {"dropout": ...}, or nothing.

        Raises:
            UserError: There is no such folder, it holds another architecture, or another setting is
                overridden.
        """
        other = sorted((override_args or {}).keys() - {"dropout"})
        if other:
            raise UserError(f"{other[0]} is overridden. Only dropout can be.")
        if not Path(model_type).is_dir():
            raise UserError(
                "There is no folder of this name. A folder with config.json and model.safetensors "
                "is expected, because nothing is downloaded.",
                where=str(model_type),
            )
        return from_gpt(import_huggingface(Path(model_type)), **(override_args or {}))


def to_gpt(model: GPT) -> groundup.model.gpt.GPT:
    """Return a nanoGPT model as our GPT, with equal logits and its own weights.

    Generation with a KV cache, evaluation, export and further training take it.
    """
    return to_ours(
        asdict(model.config),
        model.state_dict(),
        is_tied=model.lm_head.weight is model.transformer.wte.weight,
        is_tanh=model.transformer.h[0].mlp.gelu.approximate == "tanh",
    )


def untie(model: GPT) -> None:
    """Give the head a weight of its own, which is not initialized."""
    model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))


def from_gpt(gpt: groundup.model.gpt.GPT, *, dropout: float | int | None = None) -> GPT:
    """Return our GPT as a nanoGPT model, with equal logits and its own weights.

    Args:
        gpt: A model with the settings of GPT-2.
        dropout: Fraction of activations that are set to zero in training. None: as in `gpt`.

    Raises:
        UserError: nanoGPT has no such architecture.
    """
    args, weights = to_theirs(gpt)
    if dropout is not None:
        args["dropout"] = dropout
    model = GPT(GPTConfig(**args))
    if not gpt.config.tie_embeddings:
        untie(model)
    model.load_state_dict(weights)
    for block in model.transformer.h:
        block.mlp.gelu.approximate = "tanh" if gpt.config.activation == "gelu" else "none"
    return model
