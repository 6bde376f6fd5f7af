"""The optimizer: Muon for the weight matrices, AdamW for everything else, and one `step` for both.

Each kind of parameter has its own learning rate: the embeddings and the output head get gradients
for a few rows per step and need a high rate; a matrix inside a block is updated as a whole; a norm
has only a few weights. torch is imported only by the functions, so that `--help` stays fast.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le, Lt

from groundup.base.errors import UserError
from groundup.base.fields import Config
from groundup.base.kinds import Fraction, Mark, NotNegative, OptionName, Positive

if TYPE_CHECKING:
    import torch

_Float32 = Lt(1e35)
"""Larger numbers overflow in the products that they are part of."""
_Rate = Annotated[Positive, _Float32, Mark.NO_COST]

EMBEDDINGS = ("token_embedding", "position_embedding")
"""First words of the names of embedding tables: a row belongs to a token or a position."""
NGRAM_EMBEDDING = "ngram_embedding"
_HEAD, _HEAD_WIDTH = "head", 128
"""At this width an untied head has the embeddings' rate. A logit is a sum over the width, so in a
wider model the same rate would change it more: the rate falls with the width."""
_NGRAM_RATE = 5.0
"""Most of its rows are seen rarely, so each update must be larger (docs/experiments.md)."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """The optimizer and its learning rates."""

    name: Annotated[Literal["muon", "adamw"], OptionName("optimizer")] = "muon"
    """Muon for matrices with AdamW for the rest, or AdamW for all parameters."""
    learning_rate: _Rate = 0.02
    """Peak learning rate. With Muon, that of the weight matrices."""
    embedding_learning_rate: Annotated[_Rate | None, Mark.BY_BUDGET] = 0.03
    """Learning rate of the embeddings (Muon only). None: as learning_rate."""
    head_learning_rate: Annotated[_Rate | None, Mark.BY_BUDGET] = None
    """Learning rate of an untied head, which gets this times 128 / d_model (Muon only). None: as
    embedding_learning_rate."""
    norm_learning_rate: Annotated[_Rate | None, Mark.BY_BUDGET] = 0.01
    """Learning rate of norms and biases (Muon only). None: as learning_rate."""
    weight_decay: Annotated[NotNegative, _Float32, Mark.BY_BUDGET, Mark.NO_COST] = 1.0
    """Weight decay of the matrices, times the learning rate. Repeated text needs more."""
    momentum: Annotated[Fraction, Mark.NO_COST] = 0.95
    """Momentum (Muon only)."""
    newton_schulz_steps: Annotated[int, Ge(3), Le(5)] = 5
    """Newton-Schulz iterations that orthogonalize an update: 3, 4 or 5 (Muon only)."""
    adam_beta1: Annotated[float, Ge(0), Lt(1), Mark.NO_COST] = 0.9
    """Decay rate of AdamW's average of the gradient."""
    adam_beta2: Annotated[float, Ge(0), Lt(1), Mark.NO_COST] = 0.95
    """Decay rate of AdamW's average of the squared gradient."""
    adam_eps: Annotated[Positive, _Float32, Mark.NO_COST] = 1e-10
    """Constant that keeps an update by AdamW from dividing by zero."""
    max_grad_norm: Annotated[Positive, _Float32, Mark.NO_COST] | None = None
    """Clip the gradient norm to this value. None: no clipping."""

    def n_values(self, n_matrices: int, n_others: int) -> int:
        """Count the values that the optimizer stores for this many weights.

        AdamW stores two averages per weight, Muon one momentum per weight of the matrices.
        """
        return (1 if self.name == "muon" else 2) * n_matrices + 2 * n_others


class Optimizer:
    """Updates the parameters of a model, with learning rates that suit any width.

    An update by Muon changes the output of a matrix by the same fraction at any width, and an
    update of an embedding row changes the residual stream by the same amount. Only the rate of an
    untied head has to depend on the width.

    Args:
        model: The model. Parameters with `requires_grad=False` stay as they are.
        config: Names the optimizer. With "muon" the matrices inside the blocks are updated by Muon;
            embeddings, norms and biases by AdamW. With "adamw" AdamW updates all parameters at one
            learning rate, with weight decay on all but norms and biases.
        dtype: Number format of Muon's products. None: the fastest that is exact enough on this
            device.
        compiled: Compile Muon with torch.compile, for a GPU.

    Raises:
        UserError: Every parameter is frozen.

    Source: "A Spectral Condition for Feature Learning", condition 1, for matrices; "Tensor Programs
        V", table 3, for embeddings and head.

    >>> import torch
    >>> model = torch.nn.Linear(2, 2)
    >>> optimizer = Optimizer(model, OptimizerConfig(learning_rate=0.1))
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> before = model.weight.detach().clone()
    >>> optimizer.step(1.0)
    >>> bool((model.weight < before).any())
    True
    """

    def __init__(
        self,
        model: "torch.nn.Module",
        config: OptimizerConfig = OptimizerConfig(),
        *,
        dtype: "torch.dtype | None" = None,
        compiled: bool = False,
    ) -> None:
        from groundup.train.adamw import AdamW
        from groundup.train.muon import Muon

        self.config = config
        self.learning_rate = rate = config.learning_rate
        by_muon = config.name == "muon"
        embedding_rate, norm_rate = config.embedding_learning_rate, config.norm_learning_rate
        embedding_rate = embedding_rate if by_muon and embedding_rate is not None else rate
        norm_rate = norm_rate if by_muon and norm_rate is not None else rate
        # A tied head appears once: named_parameters skips what it has already listed.
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trained:
            raise UserError(
                "Every parameter of the model is frozen. At least one must have requires_grad=True."
            )
        embeddings = {n: p for n, p in trained.items() if n.startswith(EMBEDDINGS) and p.ndim >= 2}
        heads = {n: p for n, p in trained.items() if n.startswith(_HEAD) and p.ndim >= 2}
        ngrams = {n: p for n, p in trained.items() if n.startswith(NGRAM_EMBEDDING)}
        # The taps of a convolution are one vector per distance, not a map between spaces.
        vectors = {n: p for n, p in trained.items() if p.ndim < 2 or n.endswith(".taps")}
        others = embeddings | heads | ngrams | vectors
        matrices = {n: p for n, p in trained.items() if n not in others}
        self.parameters = list(trained.values())
        self.watched = next(iter((matrices or embeddings or heads or vectors).values()))
        """One parameter whose first weight is reported before and after each step."""
        muon_matrices = {n: p for n, p in matrices.items() if p.ndim == 2 and by_muon}
        self._muon = Muon(
            muon_matrices,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            newton_schulz_steps=config.newton_schulz_steps,
            stacked_rows=_stacked_rows(model),
            dtype=dtype,
            compiled=compiled,
        )
        adam_matrices = {n: p for n, p in matrices.items() if n not in muon_matrices}
        # No decay of norms and biases; embeddings decay under AdamW only, as GPT-2's do.
        embedding_decay = 0.0 if by_muon else config.weight_decay
        width = max((head.shape[1] for head in heads.values()), default=_HEAD_WIDTH)
        given = config.head_learning_rate
        head_rate = (embedding_rate if given is None else given) * _HEAD_WIDTH / width
        head_rate = head_rate if by_muon else rate
        ngram_rate = _NGRAM_RATE * embedding_rate if by_muon else embedding_rate
        groups = [
            {"params": list(members.items()), "lr": peak, "peak": peak, "weight_decay": decay}
            for members, peak, decay in (
                (adam_matrices, rate, config.weight_decay),
                (embeddings, embedding_rate, embedding_decay),
                (heads, head_rate, embedding_decay),
                (ngrams, ngram_rate, embedding_decay),
                (vectors, norm_rate, 0.0),
            )
            if members
        ]
        betas = (config.adam_beta1, config.adam_beta2)
        self._adamw = AdamW(groups, betas=betas, eps=config.adam_eps) if groups else None

    def step(self, factor: float, finite: "torch.Tensor | None" = None) -> None:
        """Update every parameter once, at `factor` times the peak learning rates.

        Args:
            factor: Fraction of the peak learning rates.
            finite: Whether the gradients are finite, where that is not read: a boolean on the
                device. If they are not, the weights do not become NaN.
        """
        self._muon.step(self.learning_rate * factor, finite)
        if self._adamw is not None:
            for group in self._adamw.param_groups:
                group["lr"] = group["peak"] * factor
            self._adamw.step(finite=finite)

    def compile_now(self) -> None:
        """Compile what is compiled, so that no step waits for it."""
        self._muon.compile_now()

    def zero_grad(self) -> None:
        """Set the gradients to None."""
        for parameter in self.parameters:
            parameter.grad = None

    def weights_are_finite(self) -> bool:
        """Whether no weight is NaN or infinite (of those that this process holds)."""
        import torch

        from groundup.train.sharding import own_part

        # One number to read, for all parameters.
        each = [torch.isfinite(own_part(p)).all() for p in self.parameters]
        return bool(torch.stack(each).all())

    def state(self) -> dict[str, "torch.Tensor"]:
        """The state of the optimizer, by parameter name.

        These are the tensors themselves, not copies: the next step changes them.
        """
        return self._muon.state() | (self._adamw.tensors() if self._adamw else {})

    def load_state(self, state: dict[str, "torch.Tensor"]) -> None:
        """Load what `state` returned.

        Raises:
            UserError: The state belongs to another model or another optimizer.
        """
        stray = sorted(state.keys() ^ self.state().keys())
        if stray:
            raise UserError(
                f"The stored optimizer state does not fit this model ({stray[0]}). It must be "
                "loaded with the settings that the run was started with."
            )
        self._muon.load_state(state)
        if self._adamw is not None:
            self._adamw.load_tensors(state)


def _stacked_rows(model: "torch.nn.Module") -> dict[str, int]:
    """Rows of each head's query, key or value matrix, and of each half of a gated MLP."""
    from groundup.model.delta import GatedDelta
    from groundup.model.layers import MLP
    from groundup.model.multi_head import MultiHeadAttention

    rows = {}
    for name, module in model.named_modules():
        if isinstance(module, MultiHeadAttention):
            rows[f"{name}.qkv.weight"] = module.d_head
        elif isinstance(module, GatedDelta):
            rows[f"{name}.inputs.weight"] = module.d_head
            rows[f"{name}.rates.weight"] = module.n_heads
        elif isinstance(module, MLP) and module.gated:
            rows[f"{name}.up.weight"] = len(module.up.weight) // 2
    return rows
