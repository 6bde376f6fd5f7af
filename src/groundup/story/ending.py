"""What a story has come to: the size, the time, the comparison, a passage and an exchange."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from groundup.base.files import read_json, write_json
from groundup.base.newest_run import newest_chat
from groundup.chat.assistant import open_chat
from groundup.chat.cast import name_of
from groundup.chat.cast_session import CastSession
from groundup.chat.config import ChatConfig
from groundup.chat.open_cast import cast_of
from groundup.evaluation.load import load
from groundup.finetune.classify.result import FROZEN
from groundup.finetune.instruct.identity import identity_of
from groundup.inspection.report import write_report
from groundup.story.folder import Story
from groundup.story.passage import invented_lines

_PLAY_LINE = "Do you love me?"
_QUESTION = "Who are you?"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What was said, and the answer."""

    you: str
    said: str
    speaker: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The last screen of a story."""

    run: str
    text: str
    """What the model was trained on, in words."""
    n_parameters: int
    n_threads: int
    device: str
    train_s: float
    elapsed_s: float | None
    """Seconds for all stages. None: they were run by more than one call."""
    n_passes: float
    bits_per_byte: float
    xz_bits_per_byte: float
    ngram_bits_per_byte: float
    classifier: dict[str, Any] | None
    """Right answers of the classifier and of the best baseline, and the number of test lines."""
    lines: tuple[str, ...]
    exchange: Exchange | None

    @property
    def gain_frac(self) -> float:
        """How many bits fewer than xz the model needs, as a fraction of those of xz."""
        return 1 - self.bits_per_byte / self.xz_bits_per_byte


def end_story(story: Story, elapsed_s: float) -> Ending:
    """Collect the results, let the model write and answer, and record that the story ended.

    Raises:
        UserError: The folder cannot be written to.
    """
    found = story.results()
    language_model = load(story.run)
    n_parameters = sum(p.numel() for p in language_model.model.parameters())
    cast = cast_of(story.run)
    first = "" if cast is None else f"{cast.cues[0]}\n"
    ending = Ending(
        run=str(story.path),
        text=identity_of(story.run, story.data, n_parameters).trained_on,
        n_parameters=n_parameters,
        n_threads=torch.get_num_threads(),
        device=str(language_model.model.device),
        train_s=found["pretrain"]["elapsed_s"],
        elapsed_s=None if story.is_resumed else elapsed_s,
        n_passes=found["plan"]["n_passes"],
        bits_per_byte=found["evaluate"]["bits_per_byte"],
        xz_bits_per_byte=found["evaluate"]["xz_bits_per_byte"],
        ngram_bits_per_byte=found["evaluate"]["ngram_bits_per_byte"],
        classifier=_classifier(found.get("classify")),
        lines=invented_lines(
            language_model, first, () if cast is None else cast.cues, seed=story.config.seed
        ),
        exchange=_exchange(story, is_play=cast is not None),
    )
    write_json(story.path / "results" / "ending.json", asdict(ending))
    write_report(story.path)  # again, with the invented passage
    story.finish(elapsed_s)
    return ending


def read_ending(folder: Path) -> Ending:
    """Read the ending of a story from its results.

    Raises:
        UserError: The story did not end.
    """
    return ending_of(read_json(folder / "results" / "ending.json"))


def ending_of(table: dict[str, Any]) -> Ending:
    """Make an ending from its record."""
    exchange = table["exchange"]
    return Ending(
        **{
            **table,
            "lines": tuple(table["lines"]),
            "exchange": None if exchange is None else Exchange(**exchange),
        }
    )


def _exchange(story: Story, *, is_play: bool) -> Exchange | None:
    """Ask one question, if there is somebody to ask."""
    if not is_play and newest_chat(story.run) is None:
        return None
    said = _PLAY_LINE if is_play else _QUESTION
    session = open_chat(ChatConfig(run=story.run, seed=story.config.seed))
    answer = "".join(session.ask(said))
    if isinstance(session, CastSession):
        return Exchange(you=name_of(session.you), said=said, speaker=session.speaker, answer=answer)
    return Exchange(you="you", said=said, speaker=story.path.name, answer=answer)


def _classifier(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Compare the classifier with the baseline that has the most right answers."""
    if found is None or not found["models"]:
        return None
    names = [model["name"] for model in found["models"]]
    rights = [model["all"]["accuracy"]["n_right"] for model in found["models"]]
    n_baselines = names.index(FROZEN)
    return {
        "n": found["n_test"],
        "n_right": rights[-1],
        "n_right_baseline": max(rights[:n_baselines]),
        "baseline": names[rights.index(max(rights[:n_baselines]))],
    }
