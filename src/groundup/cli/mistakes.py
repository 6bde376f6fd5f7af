"""Mistakes on the command line, as errors that name what was meant."""

import difflib
from collections.abc import Iterable, Sequence

from cyclopts import (
    ArgumentOrderError,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from groundup.base.config import CONVERTED, RENAMED
from groundup.base.errors import UserError
from groundup.base.fields import Kind
from groundup.cli.verbs import VERBS

_OTHER_NAMES = {
    "--accumulation-steps": "--grad-accumulation-steps",
    "--attention-heads": "--n-heads",
    "--batch": "--batch-size",
    "--beta1": "--adam-beta1",
    "--beta2": "--adam-beta2",
    "--block-size": "--context-length",
    "--bs": "--batch-size",
    "--checkpointing": "--activation-checkpointing",
    "--clip": "--max-grad-norm",
    "--context": "--context-length",
    "--context-size": "--context-length",
    "--dropout-rate": "--dropout",
    "--drop-rate": "--dropout",
    "--emb-dim": "--d-model",
    "--embedding-lr": "--embedding-learning-rate",
    "--eps": "--adam-eps",
    "--eval-every": "--validate-every",
    "--eval-interval": "--validate-every",
    "--eval-iters": "--validation-windows",
    "--eval-steps": "--validate-every",
    "--fp16": "--dtype",
    "--bf16": "--dtype",
    "--adam-epsilon": "--adam-eps",
    "--amp": "--dtype",
    "--precision": "--dtype",
    "--grad-clip": "--max-grad-norm",
    "--gradient-accumulation-steps": "--grad-accumulation-steps",
    "--gradient-checkpointing": "--activation-checkpointing",
    "--gradient-clip": "--max-grad-norm",
    "--hidden-dim": "--d-model",
    "--hidden-size": "--d-model",
    "--intermediate-size": "--d-ff",
    "--iters": "--steps",
    "--layers": "--n-layers",
    "--lr": "--learning-rate",
    "--lr-schedule": "--schedule",
    "--lr-scheduler": "--schedule",
    "--lr-scheduler-type": "--schedule",
    "--max-iters": "--steps",
    "--max-length": "--context-length",
    "--max-seq-len": "--context-length",
    "--max-steps": "--steps",
    "--max-tokens": "--max-new-tokens",
    "--min-lr": "--final-frac",
    "--mixed-precision": "--dtype",
    "--n-embd": "--d-model",
    "--n-head": "--n-heads",
    "--n-layer": "--n-layers",
    "--num-attention-heads": "--n-heads",
    "--num-hidden-layers": "--n-layers",
    "--num-kv-heads": "--n-kv-heads",
    "--num-layers": "--n-layers",
    "--num-heads": "--n-heads",
    "--num-steps": "--steps",
    "--optim": "--optimizer",
    "--output": "--out",
    "--output-dir": "--out",
    "--out-dir": "--out",
    "--save-every": "--checkpoint-every",
    "--save-interval": "--checkpoint-every",
    "--save-steps": "--checkpoint-every",
    "--save-total-limit": "--keep-checkpoints",
    "--scheduler": "--schedule",
    "--seq-len": "--context-length",
    "--sequence-length": "--context-length",
    "--temp": "--temperature",
    "--time": "--train-time",
    "--tie-weights": "--tie-embeddings",
    "--topk": "--top-k",
    "--topp": "--top-p",
    "--vocab": "--vocab-size",
    "--warmup": "--warmup-steps",
    "--warmup-iters": "--warmup-steps",
    "--wd": "--weight-decay",
}
"""What other tools call our options."""
_EXPLAINED = {
    "--resume": "A run is resumed by the same command: type it again with the same --out.",
    "--epochs": "The length of a run is set in optimizer steps, with --steps, or as a time.",
    "--vocab-size": "The vocabulary is that of the tokenizer: `groundup train-tokenizer` sets it.",
    "--force": "Choose another folder with --out.",
    "--gpu": "A GPU is used if there is one. Choose with --device cuda or --device cpu.",
    "--cuda": "A GPU is used if there is one. Choose with --device cuda or --device cpu.",
    "--cpu": "Choose with --device cpu.",
}
"""What is done without an option."""


def with_current_options(words: Sequence[str], known: Iterable[str]) -> list[str]:
    """Replace the option names of version 0.1 in a command.

    >>> with_current_options(["--minutes", "2", "--no-recompute"], ["train_time", "a"])
    ['--train-time', '2m', '--no-recompute']
    """
    names, new = set(known), list(words)
    for place, word in enumerate(words):
        option, joined, value = word.partition("=")
        no = "no-" if option.startswith("--no-") else ""
        old = option.removeprefix(f"--{no}").replace("-", "_")
        if not option.startswith("--") or old in names or RENAMED.get(old) not in names:
            continue
        convert = CONVERTED.get(old, str)
        new[place] = f"--{no}{RENAMED[old].replace('_', '-')}"
        try:
            if joined:
                new[place] += f"={convert(value)}"
            elif old in CONVERTED and place + 1 < len(words):
                new[place + 1] = convert(words[place + 1])
        except ValueError:  # not a number: the parser will refuse it
            pass
    return new


def as_user_error(error: CycloptsError, words: Sequence[str]) -> UserError:
    """Word what cyclopts found, with the nearest option or command and what to type."""
    verb = next((word for word in words if any(v.name == word for v in VERBS)), "")
    see = f"groundup {verb} --help" if verb else "groundup --help"
    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value).split("=")[0]
        known = [name for argument in error.argument_collection or [] for name in argument.names]
        return UserError(f"Unknown option {option}. {_meant(option, known)}".rstrip(), command=see)
    if isinstance(error, UnknownCommandError):
        return unknown_command(words[0])
    if isinstance(error, CoercionError) and error.argument is not None and error.token is not None:
        name = error.argument.name
        expected = Kind.of(error.argument.hint)
        message = str(error.msg or "")
        sentence = message if message.endswith("expected.") else expected.expected
        return UserError(f"{name} is {error.token.value!r}. {sentence}", command=see)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return UserError(f"{error.argument.name} needs a value.", command=see)
    if isinstance(error, RepeatArgumentError):
        return UserError(f"{error.token.keyword} is given twice.", command=see)
    if isinstance(error, UnusedCliTokensError):
        unused = " ".join(error.unused_tokens or [])
        return UserError(f"The argument {unused} is not expected.", command=see)
    if isinstance(error, ArgumentOrderError):
        return UserError("Positional arguments go first, before the options.", command=see)
    return UserError(str(error).strip().splitlines()[0], command=see)


def unknown_command(name: str) -> UserError:
    """An error that names the nearest command."""
    nearest = difflib.get_close_matches(name, [verb.name for verb in VERBS], n=1, cutoff=0.6)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    return UserError(f"There is no command {name!r}.{hint}", command="groundup --help")


def _meant(option: str, known: Sequence[str]) -> str:
    if option in _EXPLAINED:
        return _EXPLAINED[option]
    other = _OTHER_NAMES.get(option)
    if other in known:
        return f"Did you mean {other}?"
    nearest = difflib.get_close_matches(option, known, n=1, cutoff=0.7)
    return f"Did you mean {nearest[0]}?" if nearest else ""
