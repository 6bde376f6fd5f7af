"""What the page sends to its server."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from groundup.base.errors import UserError
from groundup.generation.request import Sampling
from groundup.serve import parameters
from groundup.serve.parameters import Form, Part, length

_LONGEST = 1_000_000
_MOST_TURNS = 10_000

Id = Annotated[int, Ge(0), Lt(2**31)]
Ids = Annotated[list[Id], length(0, _LONGEST, "token id")]
SomeIds = Annotated[list[Id], length(1, _LONGEST, "token id")]
Text = Annotated[parameters.Text, length(0, _LONGEST, "character")]


class TurnForm(Part):
    """A message as text, or an answer as the ids that were generated."""

    role: Literal["user", "assistant"]
    text: Text = ""
    ids: Ids = Field(default_factory=list)


class AnswerForm(Form):
    """What the page asks to generate; one of prompt, turns and text is given.

    Raises:
        UserError: More or fewer are.
    """

    prompt: SomeIds | None = None
    """The prompt of an answer before, as ids."""
    turns: Annotated[list[TurnForm], length(1, _MOST_TURNS)] | None = None
    """A conversation."""
    text: Text | None = None
    """A text to continue."""
    character: Text | None = None
    """Who answers in a play. None: one of those who speak most."""
    answer: Ids = Field(default_factory=list)
    """The tokens that the answer begins with."""
    max_new_tokens: Annotated[int, Ge(1), Le(_LONGEST)] = 256
    temperature: Annotated[float, Ge(0), Field(allow_inf_nan=False)] = 0.8
    top_k: Annotated[int, Ge(1), Lt(2**31)] | None = None
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    min_p: Annotated[float, Ge(0), Le(1)] | None = None
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
        """The sampling settings."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            seed=self.seed,
        )


class LookForm(Form):
    """A token, and the ids before it."""

    ids: SomeIds
    token: Id
