"""What fine-tuning reads: labeled texts, conversations, and pairs of a good and a bad answer."""

from dataclasses import dataclass

from groundup.tokenizer.template import Message


@dataclass(frozen=True)
class LabeledText:
    """A text and the name of its class."""

    text: str
    label: str
    where: str = ""
    """The file name and the number of the line or record: "a.csv:3"."""
    part: str = ""
    """The set that the file puts it in: train, validation or test. Empty: none."""


@dataclass(frozen=True)
class Conversation:
    """Messages of which the last one is an answer of the assistant."""

    messages: tuple[Message, ...]
    where: str = ""
    """The file name and the number of the line or record."""
    kind: str = ""
    """The type of task; empty if it is unknown."""
    part: str = ""
    """The set that the file puts it in: train, validation or test. Empty: none."""

    @property
    def prompt(self) -> str:
        """All user messages, which are compared to find near duplicates.

        >>> Conversation((Message("user", "Hi"), Message("assistant", "Hello"))).prompt
        'Hi'
        """
        return "\n".join(m.content for m in self.messages if m.role == "user")

    @property
    def answer(self) -> str:
        """The last message."""
        return self.messages[-1].content


@dataclass(frozen=True)
class Pair:
    """A prompt, the answer that was chosen, and the one that was rejected."""

    messages: tuple[Message, ...]
    """The prompt: a conversation that ends with a message of the user."""
    chosen: str
    rejected: str
    where: str = ""
    """The file name and the number of the line or record."""
    part: str = ""
    """The set that the file puts it in: train, validation or test. Empty: none."""

    @property
    def prompt(self) -> str:
        """All user messages, which are compared to find near duplicates."""
        return "\n".join(m.content for m in self.messages if m.role == "user")
