"""`groundup prepare`: documents, sizes, the split, and duplicates across it."""

from pathlib import Path
from textwrap import shorten

from groundup.base.errors import quoted
from groundup.cli.console import next_command, note, stage_progress, table, warn
from groundup.data.config import PrepareAndEncodeConfig
from groundup.data.pipeline import PrepareAndEncodeResult, prepare_and_encode
from groundup.text.audit import Audit
from groundup.text.catalog import CATALOG

_SPLIT = {"by document": "split by document", "by last part": "split within each document"}

_SMALL_SHARE = 0.02


def run(config: PrepareAndEncodeConfig) -> PrepareAndEncodeResult:
    """Prepare and print what was found."""
    for name in config.sources:
        if name in CATALOG and not Path(name).exists():
            text = CATALOG[name]
            note(f"{name}: {text.about} ({text.n_bytes:,} bytes, {text.license}), from {text.url}")
    with stage_progress() as on_progress:
        result = prepare_and_encode(config, on_progress)
    table(
        f"{', '.join(result.sources)}, {_SPLIT[result.split_rule]}",
        ["split", "documents", "characters", "bytes", *(["tokens"] if result.n_tokens else [])],
        [
            [
                name,
                *(f"{n:,}" for n in (side.n_documents, side.n_characters, side.n_bytes)),
                *([f"{result.n_tokens[name]:,}"] if result.n_tokens else []),
            ]
            for name, side in (("train", result.train), ("validation", result.validation))
        ],
    )
    if result.n_skipped_sources:
        note(f"Sources already in the corpus, unchanged: {result.n_skipped_sources}.")
    for sentence in result.left_out.sentences():
        note(sentence)
    longest = ", ".join(f"{name} ({size:,})" for name, size in result.longest[:3])
    note(f"Longest documents, in characters: {longest}")
    if result.audit is not None:
        _show_audit(result.audit)
    step = "train-tokenizer" if result.n_tokens is None else "windows"
    next_command(f"groundup {step} {quoted(result.data)}")
    return result


def _show_audit(audit: Audit) -> None:
    sample = "" if audit.sampled_frac == 1 else f" (in a sample of {audit.sampled_frac:.1%})"
    places = {
        "within training": (audit.n_passages_train, audit.within_train),
        "within validation": (audit.n_passages_validation, audit.within_validation),
        "validation in training": (audit.n_passages_validation, audit.across),
    }
    table(
        f"Duplicate passages{sample}",
        ["where", "passages", "exact duplicates", "near duplicates"],
        [
            [name, f"{n:,}", f"{found.n_exact:,}", f"{found.n_near:,}"]
            for name, (n, found) in places.items()
        ],
    )
    for name, (_, found) in places.items():
        for shown in found.examples[:1]:
            words = shorten(" ".join(shown.text.split()), 80)
            documents = " and ".join(dict.fromkeys((shown.first, shown.second)))
            note(f'{name}, in {documents}, {shown.jaccard:.0%} similar: "{words}"')
    if audit.across.examples:
        warn(
            "Some validation text also occurs in the training set, where the model can memorize "
            "it. The validation loss will be too low."
        )
    note(
        f"Languages: {_shares(audit.languages)}. Scripts: {_shares(audit.scripts)}. "
        f"Characters that are not text: {audit.non_text_frac:.2%}."
    )


def _shares(rows: list[tuple[str, float]]) -> str:
    """List the shares; small ones are mistakes of the identification more often than not."""
    named = [f"{name} {share:.1%}" for name, share in rows if share >= _SMALL_SHARE]
    return ", ".join(named) or "none"
