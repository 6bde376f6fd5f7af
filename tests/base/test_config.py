"""Defaults < recipe < command line, over frozen dataclasses."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from groundup.base import config as configs
from groundup.base.errors import UserError
from groundup.base.fields import Config, changed_settings, leaves, marked, replace_settings
from groundup.base.kinds import Count, Fraction, Mark, OptionName, Positive, Section
from groundup.model.config import GPTConfig
from groundup.train.config import PretrainConfig

OLD_RUN = Path(__file__).parents[1] / "fixtures" / "run-0.1.0" / "run"


@dataclass(frozen=True, kw_only=True)
class Inner(Config):
    width: Annotated[Count, Mark.NO_COST] = 8
    """How wide."""
    name: Annotated[Literal["p", "q"], OptionName("inner")] = "p"
    """One of two."""
    every: Annotated[Count, Mark.ZERO_IS_NONE] | None = 3
    """How often."""


@dataclass(frozen=True, kw_only=True)
class Outer(Config):
    name: str = "a"
    """A name."""
    rate: Positive = 0.1
    """A rate."""
    part: Annotated[Fraction, Section("Other")] = 0.5
    """A part."""
    limit: int | None = 5
    """A limit. None: no limit."""
    kind: Literal["x", "y"] = "x"
    """One of two."""
    fast: bool = False
    """Whether it is fast."""
    sources: tuple[str, ...] = ()
    """Some words."""
    out: Path = Path("data")
    """A place."""
    inner: Inner = Inner()
    """The inside."""


def test_round_trip_through_toml(tmp_path: Path) -> None:
    config = Outer(name="ü", rate=3e-4, limit=None, sources=("a", "b"), inner=Inner(width=9))
    recipe = tmp_path / "r.toml"
    recipe.write_text(configs.to_toml(config), encoding="utf-8")
    assert configs.from_mapping(Outer, configs.read_recipe(recipe)) == config


@pytest.mark.parametrize("none", ["off", "none", "None"])
def test_values_of_toml_get_the_types_of_their_fields(none: str) -> None:
    mapping = {"rate": 1, "limit": none, "kind": "y", "sources": ["a"], "out": "b"}
    config = configs.from_mapping(Outer, {**mapping, "inner": {"width": 1000, "every": 0}})
    expected = Outer(rate=1.0, limit=None, kind="y", sources=("a",), out=Path("b"))
    assert config == replace_settings(expected, width=1000, every=None)


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"nam": 1}, "Unknown setting 'nam'. Did you mean 'name'?"),
        ({"inner": {"widht": 1}}, "Did you mean 'width'?"),
        ({"zzz": 1}, "There is no setting of this name."),
        ({"rate": "fast"}, "rate is 'fast'. A finite number above 0 is expected."),
        ({"rate": math.nan}, "rate is nan. A finite number above 0 is expected."),
        ({"rate": math.inf}, "A finite number above 0 is expected."),
        ({"part": 1.5}, "part is 1.5. A number from 0 to 1 is expected."),
        ({"kind": "z"}, "kind is 'z'. One of x, y is expected."),
        ({"limit": 1.5}, "A whole number, or none, is expected."),
        ({"limit": True}, "limit is True. A whole number, or none, is expected."),
        ({"limit": "100"}, "limit is '100'. A whole number, or none, is expected."),
        ({"fast": "yes"}, "fast is 'yes'. True or false is expected."),
        ({"sources": "a"}, "A list is expected."),
        ({"name": 3}, "name is 3. A text is expected."),
        ({"inner": {"width": 0}}, "width is 0. A whole number of at least 1 is expected."),
        ({"inner": 3}, "inner is 3. A table of settings is expected."),
        ({"width": 4, "inner": {"width": 5}}, "given twice"),
    ],
)
def test_what_does_not_fit_is_named_with_its_file(mapping: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        configs.from_mapping(Outer, mapping, where="r.toml")
    assert words in caught.value.message
    assert caught.value.where == "r.toml"


@pytest.mark.parametrize(("table", "value"), [("model", "gpt2"), ("samples", "none")])
def test_a_text_in_place_of_a_table_is_refused(table: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{table} is '{value}'. A table of settings is expected."):
        configs.from_mapping(PretrainConfig, {table: value}, where="r.toml")


@pytest.mark.parametrize(
    "values",
    [{"rate": "0.1"}, {"limit": "100"}, {"limit": 1.0}, {"rate": math.nan}, {"inner": None}],
)
def test_wrong_types_are_refused_in_python_too(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"is .*\. A .* is expected\."):
        Outer(**values)


def test_a_path_may_be_a_string() -> None:
    assert Outer(out="b").out == Path("b")  # type: ignore[arg-type]


def test_a_flat_file_is_understood() -> None:
    config = configs.from_mapping(Outer, {"width": 4, "inner": "q"})
    assert config == Outer(inner=Inner(width=4, name="q"))


def test_settings_have_flat_names() -> None:
    assert list(leaves(Outer))[-4:] == ["out", "width", "inner", "every"]
    assert leaves(Outer)["inner"].path == ("inner", "name")
    assert (leaves(Outer)["width"].section, leaves(Outer)["part"].section) == ("Inner", "Other")
    assert marked(Outer, Mark.NO_COST) == {"width"}
    config = replace_settings(Outer(), width=2, rate=1.0, inner="q")
    assert config == Outer(rate=1.0, inner=Inner(width=2, name="q"))
    assert changed_settings(config) == {"width", "rate", "inner"}
    assert replace_settings(config, inner=Inner(), every=7).inner == Inner(every=7)
    with pytest.raises(UserError, match="no setting 'widht'"):
        replace_settings(config, widht=1)


def test_a_broken_recipe_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(UserError, match="TOML"):
        configs.read_recipe(tmp_path / "bad.toml")
    with pytest.raises(UserError, match="There is no such file"):
        configs.read_recipe(tmp_path / "none.toml")


def test_a_recipe_as_editors_on_windows_save_it(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_bytes('name = "ü"\r\n'.encode("utf-8-sig"))
    assert configs.read_recipe(recipe) == {"name": "ü"}
    for encoding in ("utf-16", "latin-1"):
        recipe.write_bytes('name = "ü"'.encode(encoding))
        with pytest.raises(UserError, match=r"not in UTF-8\. Save it again as UTF-8"):
            configs.read_recipe(recipe)


def test_the_settings_of_an_old_run_are_understood() -> None:
    config = configs.from_mapping(PretrainConfig, configs.read_recipe(OLD_RUN / "config.toml"))
    shape = GPTConfig(vocab_size=280, context_length=16, d_model=8, n_layers=1, n_heads=1)
    assert config == replace_settings(
        PretrainConfig(model=shape),
        steps=12,
        batch_size=4,
        grad_accumulation_steps=2,
        activation_checkpointing=True,
        embedding_learning_rate=0.02,
        norm_learning_rate=0.005,
        newton_schulz_steps=4,
        max_grad_norm=5.0,
        validate_every=6,
        checkpoint_every=6,
        sample_every=None,
        curves=False,
        compile="off",  # false at the time
    )


@pytest.mark.parametrize(("minutes", "time"), [(2, "2m"), (0.5, "0.5m"), ("2m", "2m")])
def test_minutes_may_be_written_with_a_unit(minutes: object, time: str) -> None:
    from groundup.story.config import StoryConfig

    assert configs.from_mapping(StoryConfig, {"minutes": minutes}).train_time == time
    for wrong, found in (("x", "'x'"), ([2], "[2]")):
        with pytest.raises(UserError, match="train_time is") as caught:
            configs.from_mapping(StoryConfig, {"minutes": wrong}, where="r.toml")
        assert found in caught.value.message


def test_every_renamed_setting_is_there() -> None:
    from groundup.story.config import StoryConfig

    known = {*leaves(PretrainConfig), *leaves(StoryConfig)}
    assert set(configs.RENAMED.values()) <= known
    assert not configs.RENAMED.keys() & known
