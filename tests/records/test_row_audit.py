"""What an audit of rows counts, and how it says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.records.audit_report import AuditReport
from groundup.records.row_audit import audit_rows
from groundup.records.splits import Split
from groundup.text.near_duplicates import PROMPT_RULE, Rule, has_near_duplicate

TEXTS = [
    "Call 0871 now to win",
    "call 0999 now, to win",
    "Call 0871 now to win",
    "Hello there, how are you?",
    "  ",
    "See you at noon",
    "Hello there, how are you",
]
LABELS = ["spam", "spam", "spam", "ham", "ham", "ham", "rare"]
SPLIT = Split(train=[0, 3, 4], validation=[1], test=[2, 5, 6])


def test_duplicates_are_counted_within_and_across_sets() -> None:
    audit = audit_rows(TEXTS, LABELS, split=SPLIT)
    assert (audit.groups.n_exact_repeats, audit.n_near_repeats) == (1, 3)
    found = {(o.name, o.others): (o.n_rows, o.n_exact, o.n_near) for o in audit.overlaps}
    assert found == {
        ("validation", ("train",)): (1, 0, 1),
        ("test", ("train",)): (3, 1, 2),
        ("test", ("train", "validation")): (3, 1, 2),
    }
    assert [(p.first, p.second) for p in audit.overlaps[1].near] == [(0, 2), (3, 6)]
    assert audit.overlaps[1].near_labels == {"spam": 1, "rare": 1}


def test_labels_empty_texts_and_conflicts() -> None:
    audit = audit_rows(TEXTS, LABELS, split=SPLIT)
    assert [(c.first, c.second) for c in audit.conflicts] == [(3, 6)]
    assert audit.empty == [4]
    assert audit.label_counts == {
        "spam": {"rows": 3, "groups": 1, "train": 1, "validation": 1, "test": 1},
        "ham": {"rows": 3, "groups": 3, "train": 2, "validation": 0, "test": 1},
        "rare": {"rows": 1, "groups": 1, "train": 0, "validation": 0, "test": 1},
    }


def test_lengths() -> None:
    audit = audit_rows(["a b", "c"] * 50, n_tokens=[5, 900] * 50, max_tokens=512)
    characters, words, tokens = audit.lengths
    assert (characters.mean, words.mean, tokens.unit) == (2.0, 1.5, "tokens")
    assert words.percentiles == {50: 2, 90: 2, 99: 2, 100: 2}
    assert tokens.percentiles[100] == 900
    assert audit.too_long == list(range(1, 100, 2))
    assert audit_rows(["a"], max_tokens=4).too_long is None


def test_pairs_with_equal_answers() -> None:
    audit = audit_rows(["a", "b"], answers=[("x", "x"), ("x", "y")])
    assert audit.equal_answers == [0]
    (warning,) = AuditReport(audit, ["a", "b"], where=["p:1", "p:2"]).warnings()
    assert warning.startswith("Pairs whose chosen and rejected answers are equal: 1 (p:1).")


def test_the_report_says_all_of_it() -> None:
    where = [f"a.csv:{n}" for n in range(2, 9)]
    audit = audit_rows(TEXTS, LABELS, split=SPLIT, n_tokens=[9] * 7, max_tokens=8)
    report = AuditReport(audit, TEXTS, LABELS, where=where)
    assert report.summary.startswith(
        "Audit: 1 of 7 rows repeat an earlier one; 1 near duplicates have different labels; 1 of 1 "
        "validation rows have a near duplicate in train; 2 of 3 test rows have a near duplicate in "
        "train or validation. Near duplicates have"
    )
    duplicates, labels, lengths = report.tables()
    assert duplicates.rows == [
        ["all, with an earlier one", "7", "1", "3", "42.9%"],
        ["validation, with train", "1", "0", "1", "100.0%"],
        ["test, with train", "3", "1", "2", "66.7%"],
        ["test, with train or validation", "3", "1", "2", "66.7%"],
    ]
    assert labels.rows[2] == ["rare", "1", "14.3%", "1", "0", "0", "1"]
    assert [row[0] for row in lengths.rows] == ["characters", "words", "tokens"]
    prompts = AuditReport(audit, TEXTS, noun="prompts").tables()
    assert (prompts[2].title, prompts[2].rows[2][0]) == (
        "Lengths of the prompts",
        "tokens, with the answer",
    )
    assert report.rule == (
        "Near duplicates have a Jaccard similarity of character 5-grams of at least 0.7, after "
        "folding case, digits, punctuation and white space."
    )
    assert report.sentences() == [
        "Longer than 8 tokens: 7 of 7 rows (a.csv:2, a.csv:3, a.csv:4, a.csv:5, a.csv:6, ...).",
    ]
    assert report.warnings() == [
        "1 of 1 validation rows (1 of them spam) have a near duplicate in train. Scores on them "
        "measure what was memorized.",
        "2 of 3 test rows (1 of them spam) have a near duplicate in train or validation. Scores on "
        "them measure what was memorized.",
        "Near duplicates with different labels: 1 pairs. One of the two labels is likely wrong.",
        "Rows without text: 1 (a.csv:6).",
        "Labels of the test set that do not occur in training: 'rare'.",
        "Labels that occur once, and cannot be in training and test set: 'rare'.",
    ]
    about = [example.about for example in report.examples()]
    assert about[0] == "Different labels (1.00, ham and rare), a.csv:5 and a.csv:8"
    assert about[-1].startswith("The least similar ones (")


def test_without_a_split_a_random_one_is_drawn() -> None:
    texts = ["Call 0871 now", "Call 0872 now", "Call 0873 now", "Call 0874 now", "Hello there"]
    audit = audit_rows(texts, random_test_frac=0.4)
    assert audit.random_overlap is not None
    n = audit.random_overlap.n_near
    (sentence,) = AuditReport(audit, texts).sentences()
    assert sentence.startswith(f"In a random split, {n} of 2 test rows ({n / 2:.0%}) have a near")
    assert n >= 1
    assert audit_rows(["alpha", "beta"], random_test_frac=0.5).random_overlap is None


def test_one_class_and_clean_rows() -> None:
    clean = audit_rows(["alpha", "beta"], ["x", "y"], split=Split([0], [], [1]))
    warnings = AuditReport(clean, ["alpha", "beta"]).warnings()
    assert [w for w in warnings if "near duplicate" in w] == []
    one = audit_rows(["alpha", "beta"], ["x", "x"])
    assert AuditReport(one, ["alpha", "beta"], ["x", "x"]).warnings() == [
        "All labels are 'x'. A classifier needs at least two classes."
    ]
    assert AuditReport(one, ["alpha", "beta"]).examples() == []


def test_no_rows() -> None:
    report = AuditReport(audit_rows([]), [])
    assert report.tables()[0].rows == [["all, with an earlier one", "0", "0", "0", "0.0%"]]


@given(
    st.lists(st.sampled_from(["win 1", "win 2", "win", "hello there", "hello you"]), min_size=3),
    st.sampled_from([Rule(threshold=0.5, n=3), PROMPT_RULE]),
)
def test_overlaps_are_those_of_has_near_duplicate(texts: list[str], rule: Rule) -> None:
    split = Split([*range(0, len(texts), 2)], [], [*range(1, len(texts), 2)])
    train, test = [texts[i] for i in split.train], [texts[i] for i in split.test]
    expected = has_near_duplicate(test, train, rule)
    (overlap,) = audit_rows(texts, split=split, rule=rule).overlaps
    assert [pair.second for pair in overlap.near] == [
        row for row, is_near in zip(split.test, expected, strict=True) if is_near
    ]
    assert overlap.n_exact == sum(text in train for text in test)


@pytest.mark.parametrize("fold_digits", [True, False])
def test_the_rule_in_words(fold_digits: bool) -> None:
    sentence = Rule(threshold=0.65, n=4, fold_digits=fold_digits).sentence
    assert "4-grams of at least 0.65" in sentence
    assert ("digits" in sentence) == fold_digits
