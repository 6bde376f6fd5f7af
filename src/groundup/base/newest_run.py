"""The run that a command takes when none is named: the newest one in runs/ that can serve."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from groundup.base.errors import UserError, quoted
from groundup.base.files import read_json
from groundup.base.run import RunFolder

Need = Literal["model", "training", "assistant", "classifier"]
"""What a command needs of a run: a model, the record of a training, or what was fine-tuned."""
RUNS = Path("runs")
_TUNED = {"assistant": "assistant*/assistant.json", "classifier": "classifier*/labels.json"}


def newest_tuned(run: Path, kind: Literal["assistant", "classifier"]) -> Path | None:
    """Find the newest complete one of RUN/assistant, RUN/assistant-2, ...; None: there is none."""
    complete = [file.parent for file in run.glob(_TUNED[kind])]
    # assistant-10 comes after assistant-9: shorter names first, then by name.
    return max(complete, key=lambda folder: (len(folder.name), folder.name), default=None)


def newest_chat(run: Path) -> Path | None:
    """Find the folder in a run that can chat and was finished last; None: there is none.

    `instruct`, `prefer` and `reinforce` write such folders.
    """
    return max(_chats(run), key=lambda folder: _age(RunFolder(folder)), default=None)


def _chats(run: Path) -> Iterator[Path]:
    """Find complete assistants, also those that were made from another one and are inside it."""
    for kind in ("assistant", "preferred", "reinforced"):
        for folder in run.glob(f"{kind}*/"):
            # What `reinforce` makes of an imported model chats by the template of that model.
            if (folder / "assistant.json").is_file() or (
                (folder / "evaluation" / "reinforce.json").is_file()
                and has_chat_template(folder / "tokenizer")
            ):
                yield folder
            yield from _chats(folder)


def list_runs(folder: Path = RUNS) -> list[RunFolder]:
    """List the runs in a folder, the newest first.

    The time is the one in the manifest of a run: when it was finished, or else when it was started.
    Of equal times, the run whose files changed last is the newest, then the one whose name is last.
    """
    try:
        found = [RunFolder(path) for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []
    return sorted((run for run in found if run.is_run), key=_age, reverse=True)


def newest_run(need: Need = "model", folder: Path = RUNS) -> Path:
    """Find the newest run that can serve.

    Raises:
        UserError: There is none.
    """
    runs = list_runs(folder)
    serving = [run.path for run in runs if _serves(run, need)]
    if serving:
        return serving[0]
    models = [run.path for run in runs if _serves(run, "model")]
    # An imported model may lack a tokenizer.
    models = models or [run.path for run in runs if _has_weights(run)]
    if need == "model" and models:
        return models[0]
    if need == "assistant" and models:
        raise UserError(
            f"No run in {folder}/ has an assistant. Fine-tune the newest model on instructions "
            "first.",
            command=f"groundup instruct {quoted(models[0])}",
        )
    if need == "classifier" and models:
        raise UserError(
            f"No run in {folder}/ has a classifier. Train one on the newest model first.",
            command=f"groundup classify {quoted(models[0])}",
        )
    has_data = Path("data/train/documents.npy").is_file()
    what = {"model": "a trained model", "training": "a training"}
    what |= {"assistant": "an assistant", "classifier": "a classifier"}
    raise UserError(
        f"No run is named, and there is no run with {what[need]} in {folder}/. Train a model "
        "first, or name the folder of a run.",
        command="groundup pretrain" if has_data else "groundup story",
    )


def _serves(run: RunFolder, need: Need) -> bool:
    if need == "training":
        return run.config_path.is_file()
    if need == "assistant":
        is_tuned = (run.path / "assistant.json").is_file() or newest_chat(run.path) is not None
        return is_tuned or (_has_weights(run) and has_chat_template(run.tokenizer))
    if need == "classifier":
        return any(run.path.glob(_TUNED[need])) or (run.path / "labels.json").is_file()
    return _has_weights(run) and run.tokenizer.is_dir()


def has_chat_template(tokenizer: Path) -> bool:
    """Whether the folder of a tokenizer says how a conversation is written."""
    if (tokenizer / "chat_template.jinja").is_file():
        return True
    try:
        about = read_json(tokenizer / "tokenizer_config.json")
    except (UserError, OSError):
        return False
    return isinstance(about, dict) and isinstance(about.get("chat_template"), str | list)


def _has_weights(run: RunFolder) -> bool:
    return any((folder / "model.json").is_file() for folder in (run.path, *run.checkpoints()))


def _age(run: RunFolder) -> tuple[float, int, list[tuple[int, str]]]:
    touched_ns = max(map(_modified_ns, [run.metrics_path, *run.checkpoints(), run.manifest_path]))
    return _recorded_s(run) or touched_ns / 1e9, touched_ns, _natural(run.path.name)


def _recorded_s(run: RunFolder) -> float | None:
    try:
        manifest = run.read_manifest()
    except UserError:
        return None
    for name in ("finished_at", "written_at"):
        try:
            return datetime.fromisoformat(manifest[name]).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            continue
    return None


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts run-10 after run-9."""
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d+)|(\D+)", name)]
