"""Generate samples from a run, and check how much of them is copied from the training text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.errors import UsageError, UserError
from groundup.base.files import read_json
from groundup.base.folder_kinds import find_run
from groundup.base.results import record_if_possible
from groundup.base.run import RunFolder
from groundup.evaluation.config import GenerateConfig
from groundup.evaluation.decoders import form_of
from groundup.evaluation.load import LanguageModel, load, refuse_classifier
from groundup.evaluation.recitation import recitation
from groundup.evaluation.run_data import texts_of
from groundup.evaluation.samples import Choice, Sample, compared, generated
from groundup.evaluation.text_generation import (
    constraint_of,
    prompt_ids,
    text_engine,
)
from groundup.generation.request import Request, Sampling
from groundup.text.corpus import corpus_file, read_chunks, read_corpus_pieces, read_sizes
from groundup.weights.huggingface import can_export

RECITED_CHARACTERS = 32
"""A passage of this length or more that occurs in the training text counts as copied."""
_PROMPT_WORDS = 6
_LONGEST_COMMAND = 400
_MOST_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """The samples of one prompt."""

    prompt: str
    samples: tuple[Sample, ...]
    choices: tuple[Choice, ...] = ()
    """The choices, the most likely first, if there are any."""
    not_checked: str | None
    """Why copied passages were not searched for. None: they were."""
    can_export: bool
    """Whether a class of transformers computes this model."""


OnSample = Callable[[str, Sample], None]
"""Called with the prompt and each complete sample, in order."""
OnText = Callable[[str, str, str], None]
"""Called with the prompt, the setting and the next piece of the first sample."""


@takes_settings(GenerateConfig, "run")
def generate_samples(
    config: GenerateConfig, on_sample: OnSample | None = None, on_text: OnText | None = None
) -> GenerateResult:
    """Generate samples and write them to RUN/samples/generated.json, if it can be written.

    The first sample is greedy: it shows what the model holds to be most likely, and how soon that
    repeats itself. All samples are generated together.

    Raises:
        UserError: There is no model, or it is a classifier, or the prompt is too long, or it is
            empty and the model has no token that begins a text.
    """
    path = find_run(config.run)
    run = RunFolder.of(path)
    refuse_classifier(run)
    language_model = load(path)
    language_model.model.to(choose_device(config.device))
    prompt, training_text, not_checked = config.prompt, None, None
    try:
        folders = [folder for folder, _ in texts_of(run)]
        prompt = prompt or _first_words(folders[0])
        for folder in folders:
            read_sizes(folder / "corpus")
        training_text = partial(_read_texts, folders)
    except UserError as error:
        not_checked = error.located
    if not prompt and not language_model.start_ids:
        raise UserError(
            "The prompt is empty, and the model has no token that begins a text. A text to "
            "continue is expected.",
            settings={"prompt": "Once upon a time"},
        )
    ids = prompt_ids(language_model, prompt)
    if config.prompt:
        _check_length(language_model, ids, config)
    engine = text_engine(
        language_model,
        form=form_of(config.dtype, config.quantize),
        deterministic=config.deterministic,
        max_rows=_MOST_ROWS,
    )
    choices = _choices(config)
    requests = _requests(language_model, ids, choices, config)
    samples = []
    on_piece = None if on_text is None else partial(on_text, prompt)
    for sample in generated(language_model, engine, requests, partial(_describe, config), on_piece):
        if training_text is not None:
            try:
                found = recitation(sample.text, training_text, n_characters=RECITED_CHARACTERS)
            except UserError as error:
                training_text, not_checked = None, error.located
            else:
                sample = replace(
                    sample, longest_recited=found.longest, recited_frac=found.copied_frac
                )
        samples.append(sample)
        if on_sample is not None:
            on_sample(prompt, sample)
    record_if_possible(run.samples / "generated.json", {"prompt": prompt, "samples": samples})
    return GenerateResult(
        prompt=prompt,
        samples=tuple(samples),
        choices=compared(language_model, engine, ids, choices),
        not_checked=not_checked,
        can_export=can_export(language_model.model.config),
    )


def _requests(
    language_model: LanguageModel, ids: list[int], choices: Sequence[str], config: GenerateConfig
) -> list[Request]:
    """The greedy sample first, then the others."""
    schema = None if config.json_schema is None else read_json(config.json_schema)
    if schema is not None and not isinstance(schema, dict):
        raise UserError(
            "This is not a JSON schema. A JSON object is expected.", where=config.json_schema
        )
    greedy = Sampling(
        temperature=0.0,
        repetition_penalty=config.repetition_penalty,
        presence_penalty=config.presence_penalty,
        frequency_penalty=config.frequency_penalty,
        logit_bias=_logit_bias(config),
        seed=config.seed,
    )
    first = Request(
        ids=ids,
        max_new_tokens=config.max_new_tokens,
        sampling=greedy,
        stop_ids=language_model.stop_ids,
        stop=config.stop,
        logprobs=config.logprobs,
        constraint=constraint_of(language_model, choices, schema),
        slide=True,
        prompt_lookup=config.prompt_lookup,
    )
    if config.temperature <= 0:
        return [first]
    sampling = replace(
        greedy,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        min_p=config.min_p,
    )
    return [first, replace(first, sampling=sampling, n=config.samples)]


def _check_length(language_model: LanguageModel, ids: list[int], config: GenerateConfig) -> None:
    T = language_model.model.config.context_length
    if len(ids) <= T:
        return
    kept = language_model.tokenizer.decode(ids[-max(1, T - config.max_new_tokens) :])
    shorter = kept[-_LONGEST_COMMAND:].strip()
    raise UserError(
        f"The prompt has {len(ids):,} tokens, and the context of the model has {T:,}. A shorter "
        "prompt is expected, for example its end.",
        settings={"prompt": shorter} if shorter else None,
    )


def _choices(config: GenerateConfig) -> tuple[str, ...]:
    """The choices; a single text has them separated by commas."""
    if len(config.choices) == 1:
        return tuple(config.choices[0].split(","))
    return config.choices


def _logit_bias(config: GenerateConfig) -> dict[int, float]:
    found: dict[int, float] = {}
    for entry in config.logit_bias:
        index, _, number = entry.partition("=")
        try:
            found[int(index)] = float(number)
        except ValueError as error:
            raise UsageError(
                f"logit_bias is {entry!r}. The id of a token and a number are expected, such as "
                "262=-5."
            ) from error
    return found


def _describe(config: GenerateConfig, sampling: Sampling, index: int) -> str:
    if sampling.is_greedy:
        return "temperature 0 (greedy)"
    limits: dict[str, Any] = {
        "top-k": config.top_k,
        "top-p": config.top_p,
        "min-p": config.min_p,
    }
    said = "".join(f", {name} {value}" for name, value in limits.items() if value is not None)
    return f"temperature {config.temperature}{said}, seed {config.seed + index}"


def _read_texts(folders: Sequence[Path]) -> Iterator[str]:
    """Read the training texts of all data folders in chunks."""
    for folder in folders:
        yield from read_chunks(folder, "train")
        yield "\n"


def _first_words(data: Path) -> str:
    """Read the first words of the validation set; empty where there is none."""
    if not corpus_file(data, "validation").is_file():
        return ""
    first = next(read_corpus_pieces(data, "validation"), None)
    return "" if first is None else " ".join(first.text.split()[:_PROMPT_WORDS])
