"""`groundup generate RUN`: let the model continue a text, and see how much of it is recited."""

from dataclasses import dataclass
from pathlib import Path

from groundup.base.device import choose_device
from groundup.base.errors import UserError, quoted
from groundup.base.files import write_json
from groundup.base.run import RunFolder
from groundup.cli.console import console, harmless, next_command, note, table, warn
from groundup.evaluation.load import LanguageModel, load
from groundup.evaluation.recitation import recitation
from groundup.generation.engine import generate
from groundup.text.corpus import corpus_file, read_corpus
from groundup.tokenizer.special import END_OF_TEXT
from groundup.weights.huggingface import can_export

RECITED_CHARACTERS = 32
"""From this length on, a stretch that stands in the training text counts as recited."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Let a trained model write on."""

    run: Path = Path("runs/story")
    """the run folder, or a checkpoint in it"""
    prompt: str = ""
    """the text to continue; empty: the first words of the held-out text"""
    max_new_tokens: int = 80
    """the longest continuation, in tokens"""
    temperature: float = 0.8
    """0 takes the likeliest token each time; higher is livelier"""
    top_k: int | None = None
    """draw from the k likeliest tokens only"""
    top_p: float | None = 0.95
    """draw from the likeliest tokens that together reach this probability"""
    seed: int = 0
    """the first sample is drawn with this seed, the next with the next one"""
    samples: int = 3
    """how many continuations; one greedy one is shown before them"""
    device: str = "auto"
    """auto, cpu or cuda"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One continuation."""

    setting: str
    text: str
    longest_recited: str | None
    """the longest stretch that stands in the training text; None: the text was not at hand"""
    recited_frac: float | None


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What the model wrote."""

    prompt: str
    samples: tuple[Sample, ...]


def run(config: GenerateConfig) -> Generation:
    """Write the samples, print them, and keep them in RUN/samples/generated.json."""
    if config.samples < 1:
        raise UserError(f"{config.samples} samples", need="at least 1", type_this="--samples 3")
    language_model = load(config.run)
    language_model.model.to(choose_device(config.device))
    data = _data_of(config.run)
    prompt = config.prompt or _first_held_out_words(data)
    training_text = _text(data, "train")
    note(f"prompt: {prompt!r}" if prompt else "no prompt: the model begins a text of its own")
    # Greedy first: it shows what the model holds for likeliest, and how soon that runs in a circle.
    settings = [("temperature 0 (greedy)", 0.0, config.seed)] if config.temperature > 0 else []
    settings += [
        (_describe(config, config.seed + i), config.temperature, config.seed + i)
        for i in range(config.samples if config.temperature > 0 else 1)
    ]
    samples = []
    for setting, temperature, seed in settings:
        text = _continue(language_model, prompt, config, temperature, seed)
        recited = (
            None
            if training_text is None
            else recitation(text, training_text, n_characters=RECITED_CHARACTERS)
        )
        samples.append(
            Sample(
                setting=setting,
                text=text,
                longest_recited=None if recited is None else recited.longest,
                recited_frac=None if recited is None else recited.copied_frac,
            )
        )
        console.print(f"\n[dim]{setting}[/dim]")
        console.print(harmless(prompt), style="dim", markup=False, end="")
        console.print(harmless(text), markup=False)
    generation = Generation(prompt=prompt, samples=tuple(samples))
    _show_recitation(generation)
    _keep(config.run, generation)
    verb = "export" if can_export(language_model.model.config) else "classify"
    next_command(f"groundup {verb} {quoted(config.run)}")
    return generation


def _continue(
    language_model: LanguageModel,
    prompt: str,
    config: GenerateConfig,
    temperature: float,
    seed: int,
) -> str:
    """One continuation, up to an end-of-text token."""
    tokenizer = language_model.tokenizer
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    ids = tokenizer.encode(prompt)
    if not ids:
        if end is None:
            raise UserError("the prompt is empty", need="a prompt", type_this='--prompt "Once"')
        ids = [end]
    drawn = temperature > 0
    new = generate(
        language_model.model,
        ids,
        config.max_new_tokens,
        temperature=temperature,
        top_k=config.top_k if drawn else None,
        top_p=config.top_p if drawn else None,
        stop_ids=() if end is None else (end,),
        seed=seed,
    )
    return tokenizer.decode(new)


def _describe(config: GenerateConfig, seed: int) -> str:
    if config.temperature == 0:
        return "temperature 0 (greedy)"
    limits = f", top-k {config.top_k}" if config.top_k is not None else ""
    limits += f", top-p {config.top_p}" if config.top_p is not None else ""
    return f"temperature {config.temperature}{limits}, seed {seed}"


def _show_recitation(generation: Generation) -> None:
    if any(sample.longest_recited is None for sample in generation.samples):
        warn("The training text is not beside this model: what is recited cannot be told.")
        return
    table(
        "How much of it stands word for word in the training text",
        ["sample", f"in stretches of {RECITED_CHARACTERS}+ characters", "longest stretch", "it is"],
        [
            [
                sample.setting,
                f"{100 * (sample.recited_frac or 0.0):.0f} %",
                str(len(sample.longest_recited or "")),
                repr(sample.longest_recited or "")[:60],
            ]
            for sample in generation.samples
        ],
    )


def _run_of(path: Path) -> Path:
    """The run folder, also when a checkpoint in it was named."""
    path = path.resolve()
    return path.parent.parent if path.parent.name == "checkpoints" else path


def _data_of(path: Path) -> Path | None:
    """The data folder the run was trained on: its own copy, or the one its manifest names."""
    run = _run_of(path)
    if (run / "data").is_dir():
        return run / "data"
    manifest = RunFolder(run).read_manifest()
    return Path(manifest["data"]) if "data" in manifest else None


def _text(data: Path | None, side: str) -> str | None:
    """All text of one side, or None where it is not at hand."""
    if data is None or not corpus_file(data, side).is_file():
        return None
    return "\n".join(document.text for document in read_corpus(data, side))


def _first_held_out_words(data: Path | None, n_words: int = 6) -> str:
    held_out = _text(data, "validation") or ""
    return " ".join(held_out.split()[:n_words])


def _keep(path: Path, generation: Generation) -> None:
    """Write the samples down; the report shows them."""
    samples = [vars(sample) for sample in generation.samples]
    write_json(
        _run_of(path) / "samples" / "generated.json",
        {"prompt": generation.prompt, "samples": samples},
    )
