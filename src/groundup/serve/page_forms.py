"""What the page sends to its server."""

from typing import Annotated, Literal

from annotated_types import Ge, Le, Len
from pydantic import BaseModel, ConfigDict

from groundup.base.errors import UserError
from groundup.generation.request import Sampling

_LONGEST = 1_000_000

Id = Annotated[int, Ge(0)]
Ids = Annotated[list[Id], Len(0, _LONGEST)]
Text = Annotated[str, Len(0, _LONGEST)]


class Form(BaseModel):
    """A JSON object without other fields."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TurnForm(Form):
    """A message as text, or an answer as the ids that were generated."""

    role: Literal["user", "assistant"]
    text: Text = ""
    ids: Ids = []


class AnswerForm(Form):
    """What the page asks to generate; one of prompt, turns and text is given.

    Raises:
        UserError: More or fewer are.
    """

    prompt: Ids | None = None
    """The prompt of an answer before, as ids."""
    turns: Annotated[list[TurnForm], Len(1, 10_000)] | None = None
    """A conversation."""
    text: Text | None = None
    """A text to continue."""
    character: Text | None = None
    """Who answers in a play. None: one of those who speak most."""
    answer: Ids = []
    """The tokens that the answer begins with."""
    max_new_tokens: Annotated[int, Ge(1), Le(_LONGEST)] = 256
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0

    def check(self) -> None:
        """Check that there is one prompt."""
        n_given = sum(each is not None for each in (self.prompt, self.turns, self.text))
        if n_given != 1:
            raise UserError(
                f"{n_given} of prompt, turns and text are given. Exactly one of them is expected."
            )

    @property
    def sampling(self) -> Sampling:
        """The sampling settings.

        Raises:
            UserError: One is out of its range.
        """
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            seed=self.seed,
        )


class LookForm(Form):
    """A token, and the ids before it."""

    ids: Ids
    token: Id
