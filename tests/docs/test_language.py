"""Terms that were replaced by those of the field do not come back, in code, help, pages or docs."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPLACED = {
    r"held[- ]out (?:text|loss|side|passage|line|part|document)": "validation set, validation loss",
    r"yardsticks?": "baseline",
    r"nats a token": "nats/token",
    r"bits a byte": "bits per byte",
    r"by heart": "overfitting, memorization",
    r"learnt|learn(?:s|ed)? from": "trained on",
    r"knows nothing|no idea at all|no_idea": "uniform baseline",
    r"anew": "again",
    r"reckon(?:s|ed)?": "estimate",
    r"foretell(?:s)?|foretold": "predict",
    r"so many": "a number, this many",
    r"at a look|looks? at the (?:held|validation)|n_looks": "validation",
    r"the parameters move|moves? the (?:parameters|matrices|tables)": "optimizer step",
    r"gradient's length|length of the gradient": "gradient norm",
    r"no numbers?\b": "NaN or infinite",
    r"gone numb|\bILL\b": "FAIL",
    r"not examined|not_examined": "skipped",
    r"is needed\. Type|; [^.\"]{1,60} is needed": "a whole sentence",
    r"put back": "restore",
    r"spoilt": "invalid",
    r"commonest": "most frequent",
    r"the whole road|the house\b|the rooms? of": "end to end, package",
    r"wish(?:es|ed)\b": "requested",
    r"of its own accord|hitherto|thereof|whither": "plain English",
    r"a chance of its own": "its own seed",
    r"type_this|need=": "command=, settings=",
    r"n[_-]micro[_-]batches": "grad_accumulation_steps",
    r"muon[_-]iterations": "newton_schulz_steps",
    r"table_learning_rate|vector_learning_rate": "embedding_learning_rate, norm_learning_rate",
    r"\b(?:colour|behaviour|neighbour|honour|favour|licen[c]e)\w*": "US spelling",
    r"\b(?:initial|normal|optim|token|orthogonal|serial|recogn|summar|quant)is(?:e|ing|at|er)\w*": (
        "US spelling"
    ),
}
ALLOWED = {
    "src/groundup/base/config.py": "the table of renamed settings",
}
FOLDERS = ("src/", "docs/", "roadmap/", "recipes/", "benchmarks/", ".github/")
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "Makefile",
    "pyproject.toml",
)


def _files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    text = (".py", ".pyi", ".md", ".toml", ".html", ".css", ".yml", "Makefile")
    return [
        name
        for name in listed.stdout.splitlines()
        if name.endswith(text)
        and (name.startswith(FOLDERS) or name in PAGES)
        and name not in ALLOWED
    ]


def test_replaced_terms_stay_away() -> None:
    found = []
    for name in _files():
        if name in ALLOWED or not (ROOT / name).is_file():
            continue
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1):
            for pattern, better in REPLACED.items():
                for match in re.finditer(pattern, line):
                    found.append(f"{name}:{number}: {match[0]!r}; write: {better}")
    assert not found, "\n".join(found)
