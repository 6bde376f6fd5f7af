"""The report page: one file, readable in both color schemes, and no text of the data is code."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.classify.figures import draw_confusion

EVIL = "<script>alert(1)</script> & $x_1$"


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.fixture
def page(run: Path) -> str:
    rows = [f"{EVIL[:9]}{k % 2}\tthe {EVIL} sat {k * k} times" for k in range(160)]
    file = run.parent / "a.tsv"
    file.write_text("\n".join(rows))
    result = classify(ClassifyConfig(run=run, labels=file, threads=1, split="random"))
    assert not result.warnings
    return (result.folder / "report.html").read_text()


def test_it_is_one_file_that_runs_no_code(page: str) -> None:
    assert "<script" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    for title in ("Scores on the test set", "Differences on the same texts", "confident mistakes"):
        assert title in page
    assert "groundup.load_classifier" in page
    assert '<meta name="viewport"' in page


def test_every_text_color_has_enough_contrast_in_both_schemes(page: str) -> None:
    light, dark = re.findall(r":root \{(.*?)\}", page, flags=re.DOTALL)
    for scheme in (light, dark):
        colors = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink in ("ink", "soft", "accent", "good"):
            for paper in ("page", "card"):
                assert contrast(colors[ink], colors[paper]) >= 4.5, (ink, paper)


def test_the_confusion_matrix_takes_the_color_of_the_page() -> None:
    svg = draw_confusion(["ham $a_1$", "spam"], [[90, 10], [1, 1200]])
    root = ElementTree.fromstring(svg)
    texts = [
        "".join(element.itertext()).strip() for element in root.iter() if "text" in element.tag
    ]
    assert {"90", "10", "1", "1,200", "ham $a_1$", "spam"} <= set(texts)
    assert "currentColor" in svg
    assert contrast("#ffffff", "#2563a5") >= 4.5
    assert draw_confusion([str(k) for k in range(31)], [[0] * 31] * 31) == ""
