"""The package as Python callers use it: strings as paths, settings by name, wrong types refused."""

import ast
import inspect
import os
import re
import shutil
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import settings

import groundup
from groundup.base.errors import UserError
from groundup.base.fields import field_kinds
from groundup.base.kinds import Mark, OptionName
from groundup.base.run import RunFolder
from groundup.cli.verbs import VERBS
from groundup.pretraining.pretrain import pretrain

SOURCE = Path(groundup.__file__).parent
CONFIGS = sorted({verb.config_class() for verb in VERBS}, key=lambda cls: cls.__name__)
SHAPE = {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}


BESIDE: dict[str, list[dict[str, str]]] = {
    "AuditConfig": [{"run": "runs/a"}],
    "ClassifyConfig": [{"labels": "a.csv"}, *({"method": m} for m in ("last", "lora", "all"))],
    "InstructConfig": [{"records": "a.json"}],
}
"""Settings without which others of the same config have no effect, and are refused."""


def made(cls: Any, name: str, value: Any) -> Any:
    for others in ({}, *BESIDE.get(cls.__name__, [])):
        try:
            return getattr(cls(**{**others, name: value}), name)
        except UserError as error:
            refused = error
    raise refused


@pytest.mark.parametrize("cls", CONFIGS, ids=lambda cls: cls.__name__)
def test_every_field_takes_what_it_means(cls: Any) -> None:
    n_paths = 0
    given: Any
    wrong: Any
    for name, kind in field_kinds(cls).items():
        option = kind.find(OptionName)
        said = name if option is None else option.name
        if kind.type is Path:
            n_paths += 1
            for given in ("a/b", Path("a/b")):
                assert made(cls, name, given) == Path("a/b")
            for wrong in (3, b"a", ["a"]):
                with pytest.raises(UserError, match=f"{said} is .*A path"):
                    made(cls, name, wrong)
        elif typing.get_origin(kind.type) is tuple:
            word = "a=1" if name == "mix" else "a"
            for given in (word, Path(word), [word], (word,), [Path(word)]):
                assert made(cls, name, given) == (typing.get_args(kind.type)[0](word),)
            with pytest.raises(UserError, match=f"{said} is .*A list"):
                made(cls, name, 3)
        elif kind.type is int:
            for wrong in ("100", True, 3.0, [3], 2.5, np.float32(3)):
                with pytest.raises(UserError, match=f"{said} is .*A whole number"):
                    made(cls, name, wrong)
            number = 16 if name == "max_reply_tokens" else 3  # at least 16
            assert type(made(cls, name, np.int64(number))) is int
        elif kind.type is float:
            for wrong in ("0.5", True, float("nan")):
                with pytest.raises(UserError, match=f"{said} is .* number"):
                    made(cls, name, wrong)
        elif kind.type is bool:
            for wrong in ("yes", 1, 0.0):
                with pytest.raises(UserError, match=f"{said} is .*True or false"):
                    made(cls, name, wrong)
        elif kind.type is str:
            some_bytes = () if Mark.FILE_NAME in kind.marks else (os.fsdecode(b"\xff"),)
            for wrong in (3, b"a", *some_bytes):
                with pytest.raises(UserError, match=f"{said} is "):
                    made(cls, name, wrong)
    assert n_paths or cls.__name__ == "StoryConfig"


def test_a_command_takes_a_config_or_a_path_and_settings(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    quick = {**SHAPE, "steps": 2, "batch_size": 2, "sample_every": None, "curves": False}
    steps: list[int] = []
    done = groundup.pretrain(
        "data", out="runs/a", on_step=lambda step: steps.append(step.step), **quick
    )
    assert (done.run, steps) == (Path("runs/a"), [1, 2])
    config = settings(data, out=Path("runs/b"), steps=2, sample_every=None, curves=False)
    assert groundup.pretrain(config).run == groundup.pretrain(config=config).run.parent / "b"
    assert RunFolder(Path("runs/a")).read_config()["model"]["d_model"] == 16
    by_path = groundup.evaluate("runs/a", stride=16)
    assert by_path == groundup.evaluate(groundup.EvaluateConfig(run=Path("runs/a")))
    shutil.rmtree("runs/b")
    shutil.rmtree("runs/b-2")
    assert groundup.evaluate() == by_path  # the newest run
    assert groundup.doctor(run="runs/a").n_steps_done == 2
    assert groundup.plan(steps=2, probe_s=0.1, **SHAPE).steps == 2
    shutil.copytree("runs/a", "runs/c")
    assert len(groundup.compare("runs/a", "runs/c").rows) == 2
    assert len(groundup.compare(["runs/a", "runs/c"], out="c.svg").rows) == 2
    assert groundup.verify("data").parts


def test_what_is_wrong_in_a_call_is_said() -> None:
    with pytest.raises(
        UserError, match=r"no setting 'step' in PretrainConfig. Did you mean 'steps'"
    ):
        groundup.pretrain("data", step=3)
    with pytest.raises(UserError, match=r"steps is '3'\. A whole number"):
        groundup.pretrain("data", steps="3")
    with pytest.raises(TypeError, match="takes a EvaluateConfig, not a ExportConfig"):
        groundup.evaluate(groundup.ExportConfig())  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="got 2 values"):
        groundup.evaluate("a", "b")
    with pytest.raises(TypeError, match="got 1 values"):
        groundup.evaluate("a", run="b")


def test_a_budget_does_not_choose_what_a_caller_names(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def choose(config: Any, data: Any, seconds: float, given: Any) -> Any:
        seen.append(given)
        raise UserError("enough")

    monkeypatch.setattr("groundup.pretraining.pretrain.choose", choose)
    with pytest.raises(UserError, match="enough"):
        pretrain(data=data, budget="1m", batch_size=8, out=data.parent / "runs" / "x")
    assert seen == [{"data", "budget", "batch_size", "out"}]


def test_a_file_that_may_not_be_read_is_a_sentence(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "data/train/x")

    monkeypatch.setattr("groundup.data.verify.TokenStore.open", forbidden)
    with pytest.raises(UserError, match=r"data/train/x: .*Permission denied"):
        groundup.verify(data)


def test_help_and_dir_show_the_public_names_by_stage() -> None:
    text = str(groundup.__doc__)
    names = groundup.__all__  # type: ignore[attr-defined]
    assert set(dir(groundup)) == set(names)
    for name in names:
        assert len(re.findall(rf"^    {name}$", text, re.MULTILINE)) == 1, name
    stages = ["1 Build the LLM", "2 Foundation model", "3 Fine-tuning", "For all stages"]
    places = [text.index(f"\n{stage}\n") for stage in stages]
    assert places == sorted(places)
    assert places[0] < text.index(" prepare\n") < places[1] < text.index(" pretrain\n") < places[2]
    assert inspect.getdoc(groundup.evaluate) == inspect.getdoc(inspect.unwrap(groundup.evaluate))


_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def strings_of_errors(source: str) -> list[str]:
    """The strings that a UserError shows, except those of its command."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name.endswith("Error") or name in ("needed", "warning", "info"):
                parts = [*node.args, *(k.value for k in node.keywords if k.arg != "command")]
                constants = [c for part in parts for c in ast.walk(part)]
                found += [str(c.value) for c in constants if isinstance(c, ast.Constant)]
    return found


def test_python_callers_are_told_python_arguments() -> None:
    """Outside of `cli/`, an option is named only in a complete command."""
    source = 'raise UserError(f"Use {x} --steps 3.", command="groundup plan --steps 3")'
    assert [text for text in strings_of_errors(source) if _OPTION.search(text)] == [" --steps 3."]
    found = {
        file.relative_to(SOURCE).as_posix(): text
        for file in sorted(SOURCE.rglob("*.py"))
        if not file.is_relative_to(SOURCE / "cli")
        for text in strings_of_errors(file.read_text("utf-8"))
        if _OPTION.search(text) and "`hf " not in text  # a command of another program
    }
    assert found == {}


def test_data_is_shown_in_a_line(data: Path) -> None:
    store = groundup.TokenStore(str(data / "train"))
    assert store.read(0, 4).tolist() == groundup.TokenStore.open(data / "train").read(0, 4).tolist()
    assert repr(store) == (
        f"TokenStore('{data / 'train'}': {store.n_tokens:,} tokens, 1 documents, vocabulary "
        f"{store.vocab_size})"
    )
    windows = groundup.Windows(store, 16, 8)
    shown = f"Windows({len(windows)} of 16 tokens, stride 8, book, over {store.n_tokens:,} tokens)"
    assert repr(windows) == shown
    assert repr(groundup.Loader(windows, 4)) == f"Loader({shown}, batch_size=4, seed=0)"
    with pytest.raises(UserError, match="no token store"):
        groundup.TokenStore("nothing")
