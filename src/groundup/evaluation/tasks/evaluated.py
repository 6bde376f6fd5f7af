"""The rows of one model: what is not in its log yet is computed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.base.device import choose_device
from groundup.base.errors import UsageError, UserError
from groundup.base.files import read_json, sha256_file
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.config import EvaluateConfig
from groundup.evaluation.decoders import decoder_of, form_of
from groundup.evaluation.load import LanguageModel, load, run_of
from groundup.evaluation.paired import require_items
from groundup.evaluation.run_data import texts_of
from groundup.evaluation.task_config import TaskConfig
from groundup.evaluation.tasks.answers import answer, choose
from groundup.evaluation.tasks.contamination import Contamination, find_contamination
from groundup.evaluation.tasks.items import Item
from groundup.evaluation.tasks.log import Row, TaskLog, fingerprint
from groundup.evaluation.tasks.prompts import Prompter, TaskPrompt

OnItem = Callable[[str, int, int], None]
"""Called with the run, the number of items that are done, and the number of all."""
_VERSION = 2
"""Raised where the same settings give other rows."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The rows of one model."""

    run: Path
    log: TaskLog
    settings: dict[str, Any]
    rows: dict[int, Row]
    is_chat: bool
    n_from_log: int
    n_computed: int
    n_without_sharing: int
    elapsed_s: float
    contamination: Contamination | None


def evaluated(
    config: EvaluateConfig, items: Sequence[Item], pool: Sequence[Item], on_item: OnItem | None
) -> Evaluated:
    """Compute the rows that the log of a model does not have.

    Raises:
        UsageError: A prompt cannot be written, or does not fit in the context.
        UserError: There is no model.
    """
    task = config.tasks
    assert task.task is not None
    path = find_run(config.run)
    language_model = load(path)
    language_model.model.to(choose_device(config.device))
    run = run_of(path, language_model.path)
    found = _contamination(config, items, language_model, run)
    prompter = Prompter(language_model, task, pool)
    prompts = _fitting(language_model, task, items, prompter)
    form = form_of(config.dtype, config.quantize)
    settings = _settings(language_model, task, items, pool, prompter.is_chat, form)
    log = TaskLog(run.evaluation / "tasks", task.task.stem, settings)
    n_from_log = len(log.rows)
    missing = {i: prompt for i, prompt in prompts.items() if i not in log.rows}
    n_computed, started_at = 0, time.perf_counter()
    if missing:
        decoder = decoder_of(language_model.model, language_model.path, form=form)
        before = decoder.n_computed
        rows = (
            choose(decoder, items, missing, task)
            if items[0].is_choice
            else answer(language_model, decoder, items, missing, task, is_chat=prompter.is_chat)
        )
        for index, row in rows:
            log.add(index, row)
            if on_item is not None:
                on_item(str(run.path), len(log.rows), len(prompts))
        n_computed = decoder.n_computed - before
    return Evaluated(
        run=run.path,
        log=log,
        settings=settings,
        rows=log.rows,
        is_chat=prompter.is_chat,
        n_from_log=n_from_log,
        n_computed=n_computed,
        n_without_sharing=sum(prompt.n_tokens for prompt in missing.values()),
        elapsed_s=time.perf_counter() - started_at,
        contamination=found,
    )


def _contamination(
    config: EvaluateConfig, items: Sequence[Item], language_model: LanguageModel, run: RunFolder
) -> Contamination | None:
    task = config.tasks
    if not task.contamination:
        return None
    folders = [] if config.data is None else [config.data]
    if not folders:
        try:
            folders = [folder for folder, _ in texts_of(run)]
        except UserError as error:
            raise UsageError(
                error.message, where=error.where, settings={"data": "path/to/data"}
            ) from error
    texts = [f"{item.question} {item.answers[0]}" for item in items]
    return find_contamination(texts, folders, n=task.ngram, tokenizer=language_model.tokenizer)


def _fitting(
    language_model: LanguageModel, task: TaskConfig, items: Sequence[Item], prompter: Prompter
) -> dict[int, TaskPrompt]:
    """Write the prompts, and drop or refuse those that do not fit in the context."""
    T = language_model.model.config.context_length
    prompts: dict[int, TaskPrompt] = {}
    too_long: list[tuple[Item, int]] = []
    for index, item in enumerate(items):
        prompt = prompter.prompt(item)
        n_new = max(map(len, prompt.continuations)) - 1 if item.is_choice else task.max_new_tokens
        n = len(prompt.ids) + n_new
        if n > T:
            too_long.append((item, n))
        else:
            prompts[index] = prompt
    if too_long and task.overlong == "error":
        item, n = too_long[0]
        what = "its longest choice" if item.is_choice else "its answer"
        count = f"{len(too_long)} of {len(items)} items do" if len(too_long) > 1 else "It does"
        raise UsageError(
            f"The prompt of this item has {n:,} tokens with {what}, and the context of the model "
            f"has {T:,}. {count} not fit. Fewer examples are expected, or that such items are left "
            "out.",
            where=item.name,
            settings={"overlong": "drop"} if len(prompts) >= 30 else {"shots": 0},
        )
    enough(len(prompts), "items that fit in the context")
    return prompts


def _settings(
    language_model: LanguageModel,
    task: TaskConfig,
    items: Sequence[Item],
    pool: Sequence[Item],
    is_chat: bool,
    form: str,
) -> dict[str, Any]:
    """All that decides the rows of an evaluation."""
    assert task.task is not None
    generates = not items[0].is_choice
    template = language_model.chat_template
    return {
        "version": _VERSION,
        "task": task.task.name,
        "items": _fingerprint_items(items),
        "limit": task.limit,
        "prompt": task.prompt,
        "shots": task.shots,
        "examples": _fingerprint_items(pool) if task.shots else None,
        "task_seed": task.task_seed if task.shots else None,
        "template": "chat" if is_chat else "plain",
        "chat_template": fingerprint(template.source) if is_chat and template else None,
        "grader": task.grader if generates else None,
        "stop": list(task.stop) if generates else None,
        "max_new_tokens": task.max_new_tokens if generates else None,
        "weights": weights_fingerprint(language_model.path),
        "tokenizer": language_model.tokenizer.fingerprint,
        "form": form,
        "prefix_caching": task.prefix_caching,
    }


def _fingerprint_items(items: Sequence[Item]) -> str:
    return fingerprint([[i.question, i.choices, i.answers, i.fields] for i in items])


def weights_fingerprint(folder: Path) -> str:
    """Compute the SHA-256 of what describes the weights in a folder, checksums among it."""
    about = {file.name: read_json(file) for file in sorted(folder.glob("*.json"))}
    adapters = [sha256_file(file) for file in sorted(folder.glob("adapter*.safetensors"))]
    return fingerprint([about, adapters])


def enough(n: int, what: str) -> None:
    """Refuse fewer than 30 items.

    Raises:
        UsageError: There are fewer.
    """
    try:
        require_items(n, what)
    except UserError as error:
        raise UsageError(error.message) from error
