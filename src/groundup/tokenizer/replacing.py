"""Whether the tokenizer of a data folder may be replaced by another one."""

from pathlib import Path
from typing import Any

from groundup.base.dependents import runs_on
from groundup.base.errors import UserError, as_options, joined, quoted
from groundup.base.files import read_json, write_json
from groundup.base.free_name import free_name
from groundup.text.corpus import SIDES, is_of_system, read_sizes, reference
from groundup.tokenizer.config import TrainTokenizerConfig
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special_names import end_of_text_id

_RECORD = "training.json"
_FILES = {
    *("tokenizer.json", "vocabulary.txt", "ladder.json", _RECORD),
    *("vocab.json", "merges.txt", "encoder.json", "vocab.bpe", "tokenizer.model"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
}
"""What a tokenizer folder of ours or of another library contains."""
_CHOICE = "Use another data folder, or set overwrite to replace it."


def another_folder(data: Path, command: str, *, options: str = "") -> str:
    """Write the command that copies the corpus to a new data folder and does the work there."""
    goal = quoted(free_name(data))
    copied = f"mkdir {goal} && cp -r {quoted(data / 'corpus')} {goal}"
    return f"{copied} && groundup {command} {goal} {options}".rstrip()


def check_tokenizer(data: Path, tokenizer: Tokenizer, source: Path, *, overwrite: bool) -> bool:
    """Refuse to replace the tokenizer of a data folder by another one.

    Args:
        data: The data folder.
        tokenizer: The new tokenizer.
        source: Its folder.
        overwrite: Whether another tokenizer may be replaced.

    Returns:
        Whether it differs from the present one, or there is none.

    Raises:
        UserError: There is another tokenizer, or a folder that is not a tokenizer.
    """
    place = data / "tokenizer"
    _refuse_foreign(place)
    held = _present(place)
    if held is not None and (held.fingerprint, end_of_text_id(held)) == (
        tokenizer.fingerprint,
        end_of_text_id(tokenizer),
    ):
        return False
    if place.exists() and not overwrite:
        options = f"--tokenizer {quoted(source)}"
        raise UserError(
            f"{_found(data, held)} It is not the one in {source}. {_CHOICE}",
            where=place,
            command=another_folder(data, "encode", options=options),
        )
    return True


def check_training(config: TrainTokenizerConfig) -> str | None:
    """Refuse to train a tokenizer where another one is, or where a run needs the present one.

    Returns:
        The fingerprint that the new tokenizer must have, where settings alone cannot decide.

    Raises:
        UserError: There is a tokenizer with other settings, or a folder that is not a tokenizer.
    """
    place = config.data / "tokenizer"
    _refuse_foreign(place)
    if config.overwrite or not place.exists():
        return None
    held = _present(place)
    if held is None:
        raise refused(config, None)
    if not (place / _RECORD).is_file():  # of an earlier version, or copied
        return held.fingerprint
    recorded, wanted = read_json(place / _RECORD), _settings(config)
    if recorded == wanted:
        return None
    if {**recorded, "corpus": None} != {**wanted, "corpus": None}:
        raise refused(config, held)
    return held.fingerprint if runs_on(config.data) else None  # the text has changed


def record_training(config: TrainTokenizerConfig) -> None:
    """Record the settings beside the tokenizer."""
    write_json(config.data / "tokenizer" / _RECORD, _settings(config))


def refused(config: TrainTokenizerConfig, held: Tokenizer | None) -> UserError:
    """The error for a tokenizer that is not to be replaced."""
    words = joined(as_options(_choices(config)))
    return UserError(
        f"{_found(config.data, held)} The requested one would be different. {_CHOICE}",
        where=config.data / "tokenizer",
        command=another_folder(config.data, "train-tokenizer", options=words),
    )


def _settings(config: TrainTokenizerConfig) -> dict[str, Any]:
    sizes = read_sizes(config.data / "corpus")
    sides = SIDES if config.kind == "characters" else SIDES[:1]
    return {**_choices(config), "corpus": [reference(side, sizes[side]) for side in sides]}


def _choices(config: TrainTokenizerConfig) -> dict[str, Any]:
    """The settings that decide the tokenizer; `ties` is named where it is not the default."""
    choices: dict[str, Any] = {"kind": config.kind}
    if config.kind == "bpe":
        choices |= {"vocab_size": config.vocab_size, "pattern": config.pattern}
        if config.ties != TrainTokenizerConfig().ties:
            choices["ties"] = config.ties
    return choices


def _found(data: Path, held: Tokenizer | None) -> str:
    size = "" if held is None else f" with {held.vocab_size:,} tokens"
    runs = runs_on(data)
    used = f", which the run {runs[0]} was trained with" if runs else ""
    return f"This data folder already has a tokenizer{size}{used}."


def _present(place: Path) -> Tokenizer | None:
    try:
        return load_tokenizer(place)
    except (UserError, KeyError, TypeError):  # damaged
        return None


def _refuse_foreign(place: Path) -> None:
    if not place.exists():
        return
    paths = list(place.iterdir()) if place.is_dir() else [place]
    foreign = [
        path.name
        for path in paths
        if path.name not in _FILES and path.suffix != ".tiktoken" and not is_of_system(path)
    ]
    if foreign:
        raise UserError(
            f"This folder contains other files than a tokenizer ({foreign[0]}), and they are not "
            "overwritten. Use another data folder.",
            where=place,
            command=f"mkdir {quoted(free_name(place.parent))} && "
            f"cp -r {quoted(place.parent / 'corpus')} {quoted(free_name(place.parent))}",
        )
