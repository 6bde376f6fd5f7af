"""Generate samples from a run, and check how much of them is copied from the training text."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.errors import UserError
from groundup.base.folder_kinds import find_run
from groundup.base.results import record_if_possible
from groundup.base.run import RunFolder
from groundup.evaluation.config import GenerateConfig
from groundup.evaluation.load import LanguageModel, load
from groundup.evaluation.recitation import recitation
from groundup.evaluation.run_data import data_of
from groundup.text.corpus import corpus_file, read_corpus
from groundup.weights.huggingface import can_export

RECITED_CHARACTERS = 32
"""A passage of this length or more that occurs in the training text counts as copied."""
_PROMPT_WORDS = 6


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One generated text."""

    setting: str
    """How it was sampled, in words."""
    text: str
    """The continuation, without the prompt."""
    longest_recited: str | None
    """The longest passage that occurs in the training text. None: it was not checked."""
    recited_frac: float | None
    """Share of the text in copied passages. None: it was not checked."""


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """The samples of one prompt."""

    prompt: str
    samples: tuple[Sample, ...]
    not_checked: str | None
    """Why copied passages were not searched for. None: they were."""
    can_export: bool
    """Whether a class of transformers computes this model."""


OnSample = Callable[[str, Sample], None]
"""Called with the prompt and each sample as soon as it is generated."""


@takes_settings(GenerateConfig, "run")
def generate_samples(config: GenerateConfig, on_sample: OnSample | None = None) -> GenerateResult:
    """Generate samples and write them to RUN/samples/generated.json, if it can be written.

    The first sample is greedy: it shows what the model holds to be most likely, and how soon that
    repeats itself.

    Raises:
        UserError: There is no model, or the prompt is empty and the model has no token that begins
            a text.
    """
    path = find_run(config.run)
    run = RunFolder.of(path)
    language_model = load(path)
    language_model.model.to(choose_device(config.device))
    prompt, training_text, not_checked = config.prompt, None, None
    try:
        data = data_of(run)
        prompt = prompt or _first_words(data)
        training_text = "\n".join(document.text for document in read_corpus(data, "train"))
    except UserError as error:
        not_checked = error.located
    if not prompt and not language_model.start_ids:
        raise UserError(
            "The prompt is empty, and the model has no token that begins a text. A text to "
            "continue is expected.",
            settings={"prompt": "Once upon a time"},
        )
    samples = []
    for temperature, seed in _settings(config):
        text = _continue(language_model, prompt, config, temperature, seed)
        found = (
            None
            if training_text is None
            else recitation(text, training_text, n_characters=RECITED_CHARACTERS)
        )
        sample = Sample(
            setting=_describe(config, temperature, seed),
            text=text,
            longest_recited=None if found is None else found.longest,
            recited_frac=None if found is None else found.copied_frac,
        )
        samples.append(sample)
        if on_sample is not None:
            on_sample(prompt, sample)
    record_if_possible(
        run.samples / "generated.json",
        {"prompt": prompt, "samples": [vars(sample) for sample in samples]},
    )
    return GenerateResult(
        prompt=prompt,
        samples=tuple(samples),
        not_checked=None if training_text is not None else not_checked,
        can_export=can_export(language_model.model.config),
    )


def _settings(config: GenerateConfig) -> list[tuple[float, int]]:
    """List temperature and seed of each sample, the greedy one first."""
    if config.temperature <= 0:
        return [(config.temperature, config.seed)]
    seeds = range(config.seed, config.seed + config.samples)
    return [(0.0, config.seed), *((config.temperature, seed) for seed in seeds)]


def _describe(config: GenerateConfig, temperature: float, seed: int) -> str:
    if temperature == 0:
        return "temperature 0 (greedy)"
    limits = f", top-k {config.top_k}" if config.top_k is not None else ""
    limits += f", top-p {config.top_p}" if config.top_p is not None else ""
    return f"temperature {temperature}{limits}, seed {seed}"


def _continue(
    language_model: LanguageModel,
    prompt: str,
    config: GenerateConfig,
    temperature: float,
    seed: int,
) -> str:
    """Generate one continuation, up to an end of text."""
    is_random = temperature > 0
    return language_model.generate(
        prompt,
        config.max_new_tokens,
        temperature=temperature,
        top_k=config.top_k if is_random else None,
        top_p=config.top_p if is_random else None,
        seed=seed,
    )


def _first_words(data: Path) -> str:
    """Read the first words of the validation set; empty where there is none."""
    if not corpus_file(data, "validation").is_file():
        return ""
    first = next(read_corpus(data, "validation"), None)
    return "" if first is None else " ".join(first.text.split()[:_PROMPT_WORDS])
