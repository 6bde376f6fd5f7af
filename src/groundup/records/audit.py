"""Audit a file: labeled texts, conversations, preference pairs, or documents as `prepare` does."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from groundup.base.calling import takes_settings
from groundup.base.errors import UsageError, UserError, as_usage_error
from groundup.base.fields import refuse_unused
from groundup.base.files import write_json
from groundup.base.free_name import free_file_name
from groundup.records.audit_report import AuditReport
from groundup.records.config import AuditConfig, RowKind
from groundup.records.conversations import layout_of, read_conversations
from groundup.records.labels import read_labels
from groundup.records.pairs import read_pairs
from groundup.records.row_audit import RowAudit, audit_rows
from groundup.records.splits import Split, book_order, book_split, given_split, split
from groundup.text.audit import Audit, Auditor
from groundup.text.config import PrepareConfig, ReadConfig
from groundup.text.left_out import LeftOut
from groundup.text.near_duplicates import PROMPT_RULE, TEXT_RULE, Rule, group_near_duplicates
from groundup.text.pieces import Piece
from groundup.text.read import read_pieces
from groundup.text.records import Record, read_records
from groundup.text.split import Side, Splitter
from groundup.tokenizer.template import Message

_NOUNS = {"labels": "texts", "conversations": "prompts", "pairs": "prompts"}


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """What the audit of a file found."""

    source: str
    kind: RowKind
    split: str
    notes: tuple[str, ...] = ()
    """What was guessed about the file, in sentences."""
    reading: LeftOut
    """What was left out while the file was read."""
    rows: RowAudit | None = None
    """The audit of rows. None: the file contains documents."""
    documents: Audit | None = None
    report: AuditReport | None = field(default=None, repr=False, compare=False)
    """The audit of rows in words, with the texts."""
    file: Path | None = None
    """The JSON file that was written."""


@dataclass
class _Rows:
    """The rows of all files."""

    texts: list[str]
    where: list[str]
    parts: list[str]
    labels: list[str] | None = None
    answers: list[tuple[str, str]] | None = None
    messages: list[tuple[Message, ...]] | None = None
    """The longest conversation of each row."""
    notes: tuple[str, ...] = ()


@takes_settings(AuditConfig, "file")
def audit(config: AuditConfig) -> AuditResult:
    """Audit a file.

    Raises:
        UserError: The file is missing or malformed, or cannot be split as asked for.
    """
    if config.file is None:
        raise UsageError(
            "The file is missing. A file of labeled texts, conversations, preference pairs or "
            "documents is expected.",
            command="groundup audit texts.csv",
        )
    files = {"train": config.file, "validation": config.validation, "test": config.test}
    named = {part: str(file) for part, file in files.items() if file is not None}
    if len(named) > 1 and config.split != "none":
        raise UsageError(
            f"The sets are separate files, and split is {config.split!r}. Either files of the sets "
            "or a split of one file is expected.",
            settings={"split": "none"},
        )
    if config.max_tokens is not None and config.run is None:
        raise UsageError(
            f"max_tokens is {config.max_tokens:,}, and no run is given. A run is expected, whose "
            "tokenizer counts the tokens.",
            settings={"run": "runs/story"},
        )
    if config.out is not None and config.out.is_dir():
        raise UsageError(
            "This is a folder. The name of a JSON file is expected.",
            where=config.out,
            settings={"out": config.out / "audit.json"},
        )
    reading = LeftOut()
    kind: RowKind = kind_of(config) if config.kind == "auto" else config.kind
    result = AuditResult(
        source=", ".join(Path(file).name for file in named.values()),
        kind=kind,
        split="given" if len(named) > 1 else config.split,
        reading=reading,
    )
    if kind == "documents":
        _refuse_settings_of_rows(config)
        result = replace(result, documents=_audit_documents(named, config, reading))
    else:
        rows = _read(named, kind, config, reading)
        groups_by = _rule(kind, config)
        n_tokens, max_tokens = _count_tokens(rows, config)
        found = audit_rows(
            rows.texts,
            rows.labels,
            split=_split(rows, config, groups_by, is_given=len(named) > 1),
            random_test_frac=config.test_frac if result.split == "none" else None,
            rule=groups_by,
            answers=rows.answers,
            n_tokens=n_tokens,
            max_tokens=max_tokens,
        )
        report = AuditReport(found, rows.texts, rows.labels, where=rows.where, noun=_NOUNS[kind])
        result = replace(result, rows=found, report=report, notes=rows.notes)
    if config.out is None:
        return result
    out = free_file_name(config.out) if config.out.exists() else config.out
    write_json(out, to_json(result))
    return replace(result, file=out)


def to_json(result: AuditResult) -> dict[str, Any]:
    """Convert an audit to plain values; the groups of the rows and the texts are left out."""
    rows: dict[str, Any] | None = None
    if result.rows is not None:
        rows = asdict(result.rows)
        groups = rows.pop("groups")
        rows |= {name: groups[name] for name in ("n_groups", "n_exact_repeats")}
        for lengths in rows["lengths"]:
            lengths["percentiles"] = {str(p): n for p, n in lengths["percentiles"].items()}
    return {
        "source": result.source,
        "kind": result.kind,
        "split": result.split,
        "notes": list(result.notes),
        "reading": result.reading.to_table(),
        "rows": rows,
        "documents": None if result.documents is None else asdict(result.documents),
    }


def kind_of(config: AuditConfig) -> RowKind:
    """Recognize what a file contains from the fields of its first record.

    Raises:
        UserError: The file is missing or empty, or it is standard input, which is read once.
    """
    if str(config.file) == "-":
        raise UsageError(
            "Standard input is read only once. The setting kind is expected: labels, "
            "conversations, pairs or documents.",
            settings={"kind": "labels"},
        )
    fields = ("text", "label", "messages", "conversations", "prompt", "completion", "chosen")
    try:
        first = next(read_records(str(config.file), config, fields=fields), None)
    except UserError:
        return "documents"  # a text; if the file is damaged, its reader says so
    if first is None or not isinstance(first.values, dict):
        return "documents"
    if "chosen" in first.values or "rejected" in first.values:
        return "pairs"
    wanted = {config.text_column or "text", config.label_column or "label"}
    if wanted <= first.values.keys():
        return "labels"
    return _kind_of_fields(first)


def _kind_of_fields(record: Record) -> RowKind:
    try:
        layout_of(record)
    except UserError:
        is_text = "text" in record.values and not record.is_table
        return "documents" if is_text else "labels"
    return "conversations"


def _read(files: dict[str, str], kind: RowKind, config: AuditConfig, reading: LeftOut) -> _Rows:
    split_column = config.split_column if config.split == "given" else None
    rows = _Rows([], [], [])
    for part, file in files.items():
        if kind == "labels":
            found = read_labels(
                file,
                config,
                text_column=config.text_column,
                label_column=config.label_column,
                split_column=split_column,
                left_out=reading,
            )
            rows.texts += found.texts
            rows.labels = [*(rows.labels or []), *found.labels]
            rows.notes = tuple(dict.fromkeys((*rows.notes, *found.notes)))
            read: Sequence[Any] = found.rows
        elif kind == "conversations":
            read = read_conversations(file, config, split_column=split_column, left_out=reading)
            rows.texts += [row.prompt for row in read]
            rows.messages = [*(rows.messages or []), *(row.messages for row in read)]
        else:
            read = read_pairs(file, config, split_column=split_column, left_out=reading)
            rows.texts += [row.prompt for row in read]
            rows.answers = [*(rows.answers or []), *((row.chosen, row.rejected) for row in read)]
            rows.messages = [*(rows.messages or []), *map(_longest, read)]
        rows.where += [row.where for row in read]
        rows.parts += [row.part or part for row in read]
    return rows


def _longest(pair: Any) -> tuple[Message, ...]:
    return (*pair.messages, Message("assistant", max(pair.chosen, pair.rejected, key=len)))


def _rule(kind: RowKind, config: AuditConfig) -> Rule:
    default = TEXT_RULE if kind == "labels" else PROMPT_RULE
    folds_digits = default.fold_digits if config.fold_digits is None else config.fold_digits
    return Rule(
        config.threshold or default.threshold, config.ngram_length or default.n, folds_digits
    )


def _split(rows: _Rows, config: AuditConfig, rule: Rule, *, is_given: bool) -> Split | None:
    if is_given or config.split == "given":
        return given_split(rows.parts)
    if config.split == "none":
        return None
    if config.split == "book":
        if rows.labels is None:
            return book_order(len(rows.texts))
        return book_split(rows.labels, seed=config.seed)
    return split(
        rows.labels,
        group_near_duplicates(rows.texts, rule).group,
        test_frac=config.test_frac,
        validation_frac=config.validation_frac,
        seed=config.seed,
        how=config.split,
    )


def _count_tokens(rows: _Rows, config: AuditConfig) -> tuple[list[int] | None, int | None]:
    if config.run is None:
        return None, None
    from groundup.records.token_counts import count_tokens  # torch takes seconds

    n_tokens, context_length = count_tokens(config.run, rows.messages or rows.texts)
    return n_tokens, min(config.max_tokens or context_length, context_length)


def _refuse_settings_of_rows(config: AuditConfig) -> None:
    """Refuse the settings that an audit of documents does not use."""
    names = ("split", "split_column", "label_column", "test_frac", "threshold", "ngram_length",
             "fold_digits", "run", "max_tokens")  # fmt: skip
    with as_usage_error():
        refuse_unused(
            config,
            names,
            "{name} is set, and the file contains documents, which are audited as `prepare` does "
            "it. This setting is for labels, conversations and pairs.",
        )


def _audit_documents(files: dict[str, str], config: AuditConfig, reading: LeftOut) -> Audit:
    """Audit documents as `prepare` does; a single file is split as `prepare` splits it."""
    settings = {name: getattr(config, name) for name in ("format", "encoding", "skip_empty")}
    read = ReadConfig(**settings, text_field=config.text_column or "text")
    auditor = Auditor()
    sides: Iterable[tuple[Side, Piece]]
    if len(files) == 1:
        seed = PrepareConfig().seed if config.seed == AuditConfig().seed else config.seed
        splitter = Splitter(validation_frac=config.validation_frac, seed=seed)
        sides = splitter.split(read_pieces(files["train"], read, left_out=reading))
    else:
        sides = (
            ("train" if part == "train" else "validation", piece)
            for part, file in files.items()
            for piece in read_pieces(file, read, left_out=reading)
        )
    for side, piece in sides:
        auditor.add(side, piece)
    return auditor.finish()
