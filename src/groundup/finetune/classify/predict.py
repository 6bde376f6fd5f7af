"""Classify a text, the lines of standard input, or the rows of a file."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from groundup.base.calling import takes_settings
from groundup.base.device import set_threads
from groundup.base.errors import UserError, as_usage_error
from groundup.base.folder_kinds import find_run
from groundup.base.free_name import free_file_name
from groundup.finetune.classify.classifier import LoadedClassifier, load_classifier
from groundup.finetune.classify.config import PredictConfig
from groundup.finetune.classify.labeled_file import SUFFIXES, write_rows
from groundup.text.left_out import LeftOut
from groundup.text.opening import open_source
from groundup.text.records import Record, file_records
from groundup.text.sources import Source, find_sources
from groundup.text.tables import split_lines

T = TypeVar("T")
STANDARD_INPUT = "-"
LABEL, PROBABILITY = "predicted_label", "probability_"
"""Names of the columns that are added; each class has its own probability."""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A text and the probability of each class."""

    text: str
    label: str
    """The most likely class."""
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """What was predicted."""

    classifier: Path
    """The run or the folder that was asked for."""
    out: Path | None
    """The file that was written. None: there is none."""
    n_texts: int
    counts: dict[str, int] = field(default_factory=dict)
    """Number of texts by predicted class."""
    predicted: list[Predicted] = field(default_factory=list)
    """The predictions, unless they were written to a file or passed on."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Rows without text, and what was left out while the file was read."""


@takes_settings(PredictConfig, "run")
def predict(
    config: PredictConfig,
    on_rows: Callable[[int], None] | None = None,
    on_predicted: Callable[[Predicted], None] | None = None,
) -> PredictResult:
    """Classify a text, or all texts of a file.

    Args:
        config: The settings.
        on_rows: Called with the number of rows of a file that are done.
        on_predicted: Called with each prediction that is not written to a file. None: the result
            holds them.

    Raises:
        UserError: There is no classifier, the file cannot be read or has no texts, or the result
            cannot be written.
    """
    run = find_run(config.run, "classifier")
    set_threads(config.threads)
    loaded = load_classifier(run, device=config.device)
    with as_usage_error():
        return _predict(run, loaded, config, on_rows, on_predicted)


def _predict(
    run: Path,
    loaded: LoadedClassifier,
    config: PredictConfig,
    on_rows: Callable[[int], None] | None,
    on_predicted: Callable[[Predicted], None] | None,
) -> PredictResult:
    left_out = LeftOut()
    if config.text is not None:
        if not config.text.strip():
            raise UserError("The text is empty. At least one character is expected.")
        return _passed_on(run, loaded, iter([config.text]), left_out, config, on_predicted)
    word = STANDARD_INPUT if config.file is None else str(config.file)
    sources = list(find_sources(word, left_out=left_out))
    if len(sources) != 1:
        raise UserError(
            f"These are {len(sources)} files. One file, or - for standard input, is expected.",
            where=word,
        )
    if word == STANDARD_INPUT and config.out is None:
        texts = _texts(sources[0], config, left_out)
        return _passed_on(run, loaded, texts, left_out, config, on_predicted)
    out = _out_file(config, sources[0])
    records = _records(sources[0], config, left_out)
    counts: Counter[str] = Counter()

    def labeled() -> Iterator[list[dict[str, Any]]]:
        n_done, column = 0, ""
        for chunk in _chunks(records, config.chunk_size):
            column = column or text_column(chunk[0], config.text_column)
            texts = [_text_of(record, column, left_out) for record in chunk]
            found = iter(_predicted(loaded, [text for text in texts if text]))
            rows = []
            for record, text in zip(chunk, texts, strict=True):
                prediction = next(found) if text else None
                counts.update([] if prediction is None else [prediction.label])
                rows.append({**record.values, **added_columns(loaded.names, prediction)})
            n_done += len(chunk)
            if on_rows is not None:
                on_rows(n_done)
            yield rows

    write_rows(out, labeled())
    n_texts = counts.total()
    if not n_texts:
        out.unlink()
        raise UserError("No row has a text. At least one is expected.", where=word)
    return PredictResult(
        classifier=run, out=out, n_texts=n_texts, counts=dict(counts), left_out=left_out
    )


def added_columns(names: tuple[str, ...], prediction: Predicted | None) -> dict[str, Any]:
    """The columns that are added to a row; their values are null where the row has no text."""
    if prediction is None:
        return {LABEL: None, **{f"{PROBABILITY}{name}": None for name in names}}
    shares = {f"{PROBABILITY}{n}": round(p, 6) for n, p in prediction.probabilities.items()}
    return {LABEL: prediction.label, **shares}


def text_column(record: Record, wanted: str | None) -> str:
    """Choose the column of the texts: the one that was asked for, text, or the only one of strings.

    Raises:
        UserError: There is no such column, or the choice is not clear.
    """
    if wanted is not None:
        record.text(wanted, setting="text_column")
        return wanted
    row = record.values if isinstance(record.values, dict) else {}
    if "text" in row or not row:
        record.text("text")
        return "text"
    strings = [str(name) for name, value in row.items() if isinstance(value, str)]
    if len(strings) == 1:
        return strings[0]
    longest = max(strings, key=lambda name: len(row[name]), default=None)
    raise UserError(
        f"There is no column 'text'. The columns are: {', '.join(map(str, row))}. The name of the "
        "column of texts is expected.",
        where=record.where,
        settings={} if longest is None else {"text_column": longest},
    )


def _passed_on(
    run: Path,
    loaded: LoadedClassifier,
    texts: Iterator[str],
    left_out: LeftOut,
    config: PredictConfig,
    on_predicted: Callable[[Predicted], None] | None,
) -> PredictResult:
    counts: Counter[str] = Counter()
    kept: list[Predicted] = []
    for chunk in _chunks(texts, config.chunk_size):
        for prediction in _predicted(loaded, chunk):
            counts[prediction.label] += 1
            (kept.append if on_predicted is None else on_predicted)(prediction)
    if not counts:
        raise UserError("There are no texts on standard input. One text per line is expected.")
    return PredictResult(
        classifier=run,
        out=None,
        n_texts=counts.total(),
        counts=dict(counts),
        predicted=kept,
        left_out=left_out,
    )


def _predicted(loaded: LoadedClassifier, texts: list[str]) -> list[Predicted]:
    if not texts:
        return []
    return [
        Predicted(
            text=text,
            label=loaded.names[int(row.argmax())],
            probabilities=dict(zip(loaded.names, row.tolist(), strict=True)),
        )
        for text, row in zip(texts, loaded.probabilities(texts), strict=True)
    ]


def _texts(source: Source, config: PredictConfig, left_out: LeftOut) -> Iterator[str]:
    """The lines of a text, or the texts of records."""
    with open_source(source, config) as file:
        if file.format == "text":
            for number, line in enumerate(split_lines(file.chunks()), 1):
                if line.strip():
                    yield line
                elif line:
                    left_out.add("lines without text", f"line {number}")
            return
        column = ""
        for record in file_records(file, fields=("",), left_out=left_out):
            column = column or text_column(record, config.text_column)
            text = _text_of(record, column, left_out)
            if text:
                yield text


def _numbered_lines(chunks: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Number the lines; what follows the last line feed is one only if it is not empty."""
    before: str | None = None
    number = 0
    for number, line in enumerate(split_lines(chunks)):
        if before is not None:
            yield number, before
        before = line
    if before:
        yield number + 1, before


def _records(source: Source, config: PredictConfig, left_out: LeftOut) -> Iterator[Record]:
    with open_source(source, config) as file:
        if file.format == "text":
            for number, line in _numbered_lines(file.chunks()):
                where = f"{source}:{number}"
                yield Record(f"{source.name}:{number}", where, {"text": line})
            return
        # A field that no file has: all columns of a Parquet file are read.
        columns = ("label", "text")
        yield from file_records(file, fields=("",), default_columns=columns, left_out=left_out)


def _text_of(record: Record, column: str, left_out: LeftOut) -> str:
    value = record.get(column)
    is_missing = value is None or (isinstance(value, float) and value != value)
    text = "" if is_missing else record.text(column)
    if not text.strip():
        left_out.add("rows without text", record.name, action="Kept as they are")
        return ""
    return text  # with the white space at its ends, as it is trained


def _out_file(config: PredictConfig, source: Source) -> Path:
    """Choose the file to write; a name that is taken gets a number.

    Raises:
        UserError: Its format is not known.
    """
    name = Path(source.name)
    suffix = name.suffix if name.suffix in SUFFIXES else ".csv"
    out = config.out or Path(f"{name.stem}-predicted{suffix}")
    if out.suffix not in SUFFIXES:
        raise UserError(
            f"The format of this file is not known. One of {', '.join(SUFFIXES)} is expected.",
            where=out,
            settings={"out": str(out.with_suffix(".csv"))},
        )
    return free_file_name(out) if out.exists() else out


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
