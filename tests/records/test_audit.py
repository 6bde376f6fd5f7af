"""`groundup audit`: every kind of file, the published figures, and the screen."""

import json
from pathlib import Path
from typing import Any

import pytest

from groundup.base.errors import UserError
from groundup.cli.audit_view import beside
from groundup.cli.main import main
from groundup.records.audit import audit, kind_of
from groundup.records.config import AuditConfig
from groundup.records.row_audit import Overlap, RowAudit

LABELED = "text,label\n" + "".join(
    f"{text},{label}\n"
    for text, label in [
        ("Win 100 pounds now,call us", "spam"),
        ("Win 900 pounds now call us", "spam"),
        ("See you at the station", "ham"),
        ("I will call you later", "ham"),
        ("Are you coming to dinner", "ham"),
        ("Free entry this week only", "spam"),
    ]
).replace("now,call", "now call")


def rows_of(path: Path, **settings: Any) -> RowAudit:
    found = audit(path, **settings).rows
    assert found is not None
    return found


def overlap(rows: RowAudit, name: str, *others: str) -> Overlap:
    return next(o for o in rows.overlaps if (o.name, o.others) == (name, others))


def test_the_sms_collection(shared_data: Path) -> None:
    found = rows_of(shared_data / "sms-spam.tsv", format="tsv-pandas", split="book")
    assert found.n_rows == 5572
    assert found.groups.n_exact_repeats == 403
    test = overlap(found, "test", "train", "validation")
    assert (test.n_rows, test.n_exact, test.n_near) == (300, 41, 77)
    assert test.near_labels == {"spam": 73, "ham": 4}
    drawn = rows_of(shared_data / "sms-spam.tsv").random_overlap
    assert drawn is not None
    assert (drawn.n_rows, drawn.n_near) == (1114, 172)


def test_a_grouped_split_of_the_sms_collection_has_no_leak(shared_data: Path) -> None:
    found = rows_of(shared_data / "sms-spam.tsv", split="grouped")
    assert [(o.n_exact, o.n_near) for o in found.overlaps] == [(0, 0)] * 3
    assert found.label_counts["spam"]["test"] in (149, 150)


def test_the_instruction_data(shared_data: Path) -> None:
    path = shared_data / "instruction-data.json"
    found = rows_of(path, split="book")
    assert found.groups.n_exact_repeats == 25
    test = overlap(found, "test", "train")
    assert (test.n_rows, test.n_exact, test.n_near) == (110, 2, 51)
    for threshold, n_near in ((0.5, 69), (0.7, 35), (0.8, 9)):
        found = rows_of(path, split="book", threshold=threshold)
        assert overlap(found, "test", "train").n_near == n_near
    # With the rule for texts, the figures are others.
    for threshold, n_near in ((0.6, 49), (0.7, 31)):
        found = rows_of(path, split="book", threshold=threshold, ngram_length=5, fold_digits=True)
        assert overlap(found, "test", "train").n_near == n_near


def test_the_preference_data(shared_data: Path) -> None:
    found = rows_of(shared_data / "preference-data.json")
    assert found.equal_answers is not None
    assert (found.n_rows, len(found.equal_answers)) == (1100, 6)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.csv", LABELED, "labels"),
        ("a.csv", "message,kind\na b,x\nc d,y\ne f,x\n", "labels"),
        ("a.tsv", "x\ta b\ny\tc d\nx\te f\n", "labels"),
        ("a.jsonl", '{"text": "a", "label": 1}\n', "labels"),
        ("a.jsonl", '{"instruction": "a", "output": "b"}\n', "conversations"),
        ("a.jsonl", '{"prompt": "a", "completion": "b"}\n', "conversations"),
        ("a.jsonl", '{"messages": []}\n', "conversations"),
        ("a.jsonl", '{"instruction": "a", "chosen": "b", "rejected": "c"}\n', "pairs"),
        ("a.jsonl", '{"text": "a", "url": "b"}\n', "documents"),
        ("a.txt", "a, b\n", "documents"),
    ],
)
def test_the_kind_of_a_file_is_recognized(
    tmp_path: Path, name: str, content: str, kind: str
) -> None:
    (tmp_path / name).write_text(content)
    assert kind_of(AuditConfig(file=tmp_path / name)) == kind


def test_standard_input_needs_a_kind() -> None:
    with pytest.raises(UserError, match="The setting kind is expected"):
        audit("-")
    with pytest.raises(UserError, match="The file is missing"):
        audit(AuditConfig())


def test_separate_files_are_compared(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(LABELED)
    (tmp_path / "test.csv").write_text("text,label\nwin 500 pounds now call us,spam\nnew,other\n")
    found = rows_of(tmp_path / "train.csv", test=tmp_path / "test.csv")
    (only,) = found.overlaps
    assert (only.name, only.n_rows, only.n_near) == ("test", 2, 1)
    assert found.label_counts["other"] == {"rows": 1, "groups": 1, "train": 0, "test": 1}
    with pytest.raises(UserError, match="Either files of the sets or a split of one file"):
        audit(tmp_path / "train.csv", test=tmp_path / "test.csv", split="random")


def test_a_column_names_the_sets(tmp_path: Path) -> None:
    rows = LABELED.splitlines()
    parts = ["split", "train", "test", "train", "train", "valid", "train"]
    text = "".join(f"{row},{part}\n" for row, part in zip(rows, parts, strict=True))
    (tmp_path / "a.csv").write_text(text)
    found = rows_of(tmp_path / "a.csv", split="given")
    assert [(o.name, o.n_near) for o in found.overlaps] == [
        ("validation", 0),
        ("test", 1),
        ("test", 1),
    ]


def test_tokens_are_those_of_a_run(tmp_path: Path, run: Path) -> None:
    (tmp_path / "a.csv").write_text(LABELED)
    found = rows_of(tmp_path / "a.csv", run=run)
    assert [lengths.unit for lengths in found.lengths] == ["characters", "words", "tokens"]
    assert found.too_long is not None
    assert found.max_tokens == 24
    assert len(rows_of(tmp_path / "a.csv", run=run, max_tokens=1).too_long or []) == 6
    (tmp_path / "b.jsonl").write_text('{"prompt": "a b", "completion": "c"}\n' * 2)
    tokens = rows_of(tmp_path / "b.jsonl", run=run).lengths[2]
    assert tokens.percentiles[100] >= 5  # of both turns, with their ends


@pytest.mark.parametrize(
    ("name", "value"),
    [("split", "random"), ("threshold", 0.5), ("split_column", "part"), ("run", Path("r"))],
)
def test_a_setting_of_rows_is_refused_for_documents(tmp_path: Path, name: str, value: Any) -> None:
    (tmp_path / "a.txt").write_text("a text\n")
    with pytest.raises(UserError, match=f"{name} is set, and the file contains documents"):
        audit(tmp_path / "a.txt", **{name: value})
    with pytest.raises(UserError, match="This is a folder"):
        audit(tmp_path / "a.txt", out=tmp_path)


def test_documents_are_audited_as_prepare_does(tmp_path: Path) -> None:
    passage = "the quick brown fox jumps over the lazy dog and then it sleeps all day long"
    texts = [f"{passage} {i}\n\n" * 2 + f"{i} other words\n\n" * 40 for i in range(5)]
    (tmp_path / "a.txt").write_text("".join(texts))
    found = audit(tmp_path / "a.txt").documents
    assert found is not None
    assert found.within_train.n_exact + found.across.n_exact > 0
    (tmp_path / "b.txt").write_text(f"{passage} 1\n\nsomething else\n")
    across = audit(tmp_path / "a.txt", test=tmp_path / "b.txt").documents
    assert across is not None
    assert (across.n_passages_validation, across.across.n_exact) == (1, 1)


def test_the_json_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LABELED)
    out = tmp_path / "audit.json"
    assert audit(tmp_path / "a.csv", split="random", out=out).file == out
    again = audit(tmp_path / "a.csv", out=out).file
    assert again == tmp_path / "audit-2.json"
    written = json.loads(out.read_text())
    assert written["kind"] == "labels"
    assert written["rows"]["n_rows"] == 6
    assert written["rows"]["n_groups"] == 5
    assert written["rows"]["rule"] == {"threshold": 0.7, "n": 5, "fold_digits": True}


def test_tokens_are_not_counted_without_a_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text\n")
    with pytest.raises(UserError, match="A run is expected, whose tokenizer") as caught:
        audit(AuditConfig(file=path, max_tokens=5))
    assert caught.value.settings == {"run": "runs/story"}


def test_too_little_for_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="less than 5 % for training"):
        audit(tmp_path / "a.csv", split="grouped", test_frac=0.95)


def test_the_next_command_takes_the_column_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f'{{"body": "a text of {i}"}}\n' for i in range(20))
    (tmp_path / "a.jsonl").write_text(rows)
    assert main(["audit", "a.jsonl", "--kind", "documents", "--text-column", "body"]) == 0
    assert capsys.readouterr().out.endswith("next: groundup prepare a.jsonl --text-field body\n")


def test_the_screen_ends_with_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b.csv").write_text(LABELED.replace("text,label", "message,kind"))
    assert main(["audit", "a b.csv", "--split", "random", "--encoding", "ascii"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Texts are read from the column 'message'")
    assert any("Near duplicates have a Jaccard similarity" in line for line in lines)
    assert lines[-1] == "next: groundup classify --labels 'a b.csv' --encoding ascii"
    assert max(map(len, lines)) <= 80


def test_examples_show_where_they_differ() -> None:
    a, b = "x" * 90 + " one\nend " + "y" * 90, "x" * 90 + " two end " + "y" * 90
    first, second = beside(a, b)
    assert len(first) <= 75
    assert " one end y" in first
    assert " two end y" in second
    assert (first[0], first[-1]) == ("…", "…")
    assert beside("same", "also") == ["same", "also"]


def messages(*roles: str) -> str:
    return json.dumps({"messages": [{"role": r, "content": f"{r} says"} for r in roles]})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "text,label\n,a\n", "No row has both text and label"),
        ("a.csv", "text,label\nb,nan\n", "The label of 1 rows is missing"),
        ("a.csv", "id,message,kind\n1,a,b\n", "The columns are: id, message, kind"),
        ("a.jsonl", messages("system", "system", "user", "assistant"), "has 2 system messages"),
        ("a.jsonl", messages("user", "assistant", "user"), "The last message is of the user"),
        ("a.jsonl", messages("user", "tool", "assistant"), "has the role 'tool'"),
        ("a.jsonl", '{"instruction": "a", "output": " "}', "The field 'output' is empty"),
        ("a.jsonl", '{"prompt": "a", "chosen": "", "rejected": "b"}', "'chosen' is empty"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, words: str
) -> None:
    (tmp_path / name).write_text(content)
    assert main(["audit", str(tmp_path / name)]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
