"""The optimiser: Muon for the matrices, AdamW for everything else, and one `step` for both.

Each kind of parameter has its own learning rate, for each wants another one: the token table and
the head see a different few rows at every step and like a high rate; a matrix inside a block is
moved as a whole; a norm's gain is a handful of numbers.
"""

from typing import Literal

import torch
from torch import Tensor

from groundup.base.errors import UserError
from groundup.model.attention import Attention
from groundup.model.gpt import MLP
from groundup.train.adamw import AdamW
from groundup.train.muon import Muon
from groundup.train.sharding import own_part

TABLES = ("token_embedding", "position_embedding")
"""Parameters whose name starts so are tables: a row belongs to a token or a position."""
NGRAM_TABLE = "ngram_embedding"
_HEAD, _HEAD_WIDTH = "head", 128
"""At this width a head of its own moves at the tables' rate. A logit sums over the width, so in a
wider model the same rate would move it further: the rate falls with the width."""
_NGRAM_RATE = 5.0
"""Most of its rows are met a few times only, so each time counts for more (docs/experiments.md)."""


class Optimizer:
    """Moves the parameters of a model against their gradients, at rates that hold for any width.

    An update of Muon's changes what a matrix gives by the same share at any width, a step in a row
    of a table the stream by the same; only a head of its own has to know its width.

    Args:
        model: The model; parameters with `requires_grad` off are left alone.
        kind: "muon": Muon for the matrices inside the blocks, AdamW for tables, gains and biases.
            "adamw": AdamW for everything at the one `learning_rate`, decay on matrices only.
        learning_rate: Rate of the matrices.
        table_learning_rate: Rate of the tables under "muon", and of an untied head 128 wide, which
            falls as the width rises; None: the same as the matrices.
        vector_learning_rate: Rate of gains and biases under "muon"; None: the same as the matrices.
        weight_decay: Share of a matrix taken away per step, times its rate.
        momentum: Muon's momentum.
        betas: AdamW's two averages: of the gradient, and of its square.
        n_iterations: Muon's Newton-Schulz steps.
        dtype: Number format of Muon's products; None: the fastest that is exact enough here.

    Raises:
        UserError: A rate is not above 0, or nothing is left to train.

    Source: "A Spectral Condition for Feature Learning", condition 1, for matrices; "Tensor Programs
        V", table 3, for tables and head.

    >>> model = torch.nn.Linear(2, 2)
    >>> optimizer = Optimizer(model, learning_rate=0.1)
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> before = model.weight.detach().clone()
    >>> optimizer.step(1.0)
    >>> bool((model.weight < before).any())
    True
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        kind: Literal["muon", "adamw"] = "muon",
        learning_rate: float = 0.02,
        table_learning_rate: float | None = None,
        vector_learning_rate: float | None = None,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        n_iterations: int = 5,
        dtype: torch.dtype | None = None,
    ) -> None:
        table_rate = learning_rate if table_learning_rate is None else table_learning_rate
        vector_rate = learning_rate if vector_learning_rate is None else vector_learning_rate
        if kind == "adamw":
            table_rate = vector_rate = learning_rate
        for rate in (learning_rate, table_rate, vector_rate):
            if not 0.0 < rate < float("inf"):
                raise UserError(f"a learning rate of {rate}", need="a rate above 0")
        self.learning_rate = learning_rate
        # A tied head appears once: named_parameters leaves out what it has shown before.
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trained:
            raise UserError("every parameter is frozen", need="at least one that may move")
        tables = {n: p for n, p in trained.items() if n.startswith(TABLES) and p.ndim >= 2}
        heads = {n: p for n, p in trained.items() if n.startswith(_HEAD) and p.ndim >= 2}
        ngrams = {n: p for n, p in trained.items() if n.startswith(NGRAM_TABLE)}
        matrices = {n: p for n, p in trained.items() if p.ndim >= 2}
        matrices = {n: p for n, p in matrices.items() if n not in tables | heads | ngrams}
        vectors = {n: p for n, p in trained.items() if p.ndim < 2}
        self.parameters = list(trained.values())
        self.watched = next(iter((matrices or tables or heads or vectors).values()))
        """One matrix to look at: its first number shows that a step moves the parameters."""
        muon_matrices = {n: p for n, p in matrices.items() if p.ndim == 2 and kind == "muon"}
        self._muon = Muon(
            muon_matrices,
            momentum=momentum,
            weight_decay=weight_decay,
            n_iterations=n_iterations,
            stacked_rows=_stacked_rows(model),
            dtype=dtype,
        )
        adam_matrices = {n: p for n, p in matrices.items() if n not in muon_matrices}
        # Decay on what multiplies, never on gains and biases; tables decay as GPT-2's do.
        table_decay = weight_decay if kind == "adamw" else 0.0
        width = max((head.shape[1] for head in heads.values()), default=_HEAD_WIDTH)
        head_rate = table_rate if kind == "adamw" else table_rate * _HEAD_WIDTH / width
        self._adamw = [
            AdamW(members, learning_rate=rate, weight_decay=decay, betas=betas)
            for members, rate, decay in (
                (adam_matrices, learning_rate, weight_decay),
                (tables, table_rate, table_decay),
                (heads, head_rate, table_decay),
                (ngrams, _NGRAM_RATE * table_rate, table_decay),
                (vectors, vector_rate, 0.0),
            )
            if members
        ]

    def step(self, factor: float) -> None:
        """Move every parameter once, at `factor` of the full learning rates."""
        self._muon.step(self.learning_rate * factor)
        for group in self._adamw:
            group.step(factor)

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for parameter in self.parameters:
            parameter.grad = None

    def weights_are_finite(self) -> bool:
        """Whether every weight is a number (of those this process holds)."""
        return all(bool(torch.isfinite(own_part(p)).all()) for p in self.parameters)

    def state(self) -> dict[str, Tensor]:
        """Everything the next step depends on besides weights and gradients, by parameter name.

        These are the tensors themselves, not copies: the next step changes them.
        """
        state = self._muon.state()
        for group in self._adamw:
            state |= group.state()
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave.

        Raises:
            UserError: The state belongs to another model or another kind of optimiser.
        """
        stray = sorted(state.keys() ^ self.state().keys())
        if stray:
            raise UserError(
                f"the stored optimiser does not fit this model ({stray[0]})",
                need="the settings the run was started with",
            )
        self._muon.load_state(state)
        for group in self._adamw:
            group.load_state(state)


def _stacked_rows(model: torch.nn.Module) -> dict[str, int]:
    """Rows of each head's query, key or value matrix, and of a gated MLP's two halves."""
    rows = {}
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            rows[f"{name}.qkv.weight"] = module.d_head
        elif isinstance(module, MLP) and module.gated:
            rows[f"{name}.up.weight"] = len(module.up.weight) // 2
    return rows
