"""What a constraint of a text can do; `choices.py` and `grammar.py` have them."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Constraint(Protocol):
    """Restricts the text of one sequence, for example to a JSON schema."""

    def allowed(self, n_left: int) -> Tensor:
        """Return which tokens may come next, (V,) bool.

        Args:
            n_left: Number of tokens that may still be generated, at least 1.
        """
        ...

    @property
    def may_end(self) -> bool:
        """Whether the text so far is complete."""
        ...

    @property
    def must_end(self) -> bool:
        """Whether the text so far is complete, and nothing may follow."""
        ...

    def accept(self, token: int) -> None:
        """Add a token to the text."""
        ...
