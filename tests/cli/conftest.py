# The package is imported inside fixtures: the plugin of jaxtyping has to come before it.
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

SHAPE = "--context-length 64 --d-model 16 --n-layers 1 --n-heads 1"


@pytest.fixture(scope="session")
def small_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with text.txt, data/, runs/first and the newer, fine-tuned runs/model.

    It is made from inside, as a user does. Tests copy it: `project`.
    """
    from groundup.cli.main import main
    from groundup.text.builtin import python_reference

    project = tmp_path_factory.mktemp("small") / "project"
    project.mkdir()
    text = "\n\n".join(document.text for document in python_reference())
    (project / "text.txt").write_text(text[:30_000], encoding="utf-8")
    words = "cat dog log mat fox owl hill road moon well oak bird stone river night lamp".split()  # noqa: SIM905
    pairs = [{"prompt": f"{w}?", "chosen": f"{w}, please", "rejected": "no"} for w in words]
    (project / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    answers = [{"question": f"⏎ {n}?", "answer": str(n)} for n in range(30)]
    (project / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)), encoding="utf-8")
    train = f"pretrain --steps 2 --batch-size 2 --sample-every 0 --no-curves {SHAPE}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for command in (
            "prepare text.txt",
            "train-tokenizer --vocab-size 300",
            f"{train} -o runs/first",
            f"{train} -o runs/model --seed 2",
            "instruct runs/model --steps 2 --batch-size 2 --test-per-kind 1 --max-new-tokens 2",
            "classify runs/model --n-classes 2",
        ):
            assert main(command.split()) == 0, command
    return project


@pytest.fixture
def project(small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small project as working directory; the recorded paths are its own."""
    from groundup.cli import console

    project = tmp_path / "project"
    shutil.copytree(small_project, project)
    for manifest in project.glob("runs/*/manifest.json"):
        before = manifest.stat()
        manifest.write_text(manifest.read_text().replace(str(small_project), str(project)))
        os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.chdir(project)
    monkeypatch.setattr(console.console, "width", 500)
    return project


@pytest.fixture(autouse=True)
def _every_printed_command_parses(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Parse every command that a test made the command line print, with the parser of users."""
    from groundup.base.errors import UserError
    from groundup.cli import console
    from groundup.cli import main as cli

    console.suggested.clear()
    yield
    wrong = []
    before = list(console.typed)
    for command in dict.fromkeys(console.suggested):
        for part in command.split(" && "):
            words = shlex.split(part)
            if words[0] != "groundup":
                assert words[0] in ("chmod", "cp", "ls", "mkdir", "pip", "rm", "apt"), command
                continue
            try:
                if words[1] != "--help":
                    cli._parse(cli._find(words[1]), words[1:])
            except UserError as error:
                wrong.append(f"{command}: {error.message}")
    console.typed[:] = before
    assert not wrong
