"""Defaults < recipe < command line, over frozen dataclasses."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from groundup.base import config as configs
from groundup.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = 8
    """How wide."""


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "a"
    """A name."""
    rate: float = 0.1
    """A rate."""
    limit: int | None = 5
    """A limit; off for none."""
    kind: Literal["x", "y"] = "x"
    """One of two."""
    sources: tuple[str, ...] = ()
    """Some words."""
    out: Path = Path("data")
    """A place."""
    inner: Inner = field(default_factory=Inner)
    """The inside."""


def test_round_trip_through_toml(tmp_path: Path) -> None:
    config = Outer(name="ü", rate=3e-4, limit=None, sources=("a", "b"), inner=Inner(width=9))
    recipe = tmp_path / "r.toml"
    recipe.write_text(configs.to_toml(config), encoding="utf-8")
    assert configs.from_mapping(Outer, configs.read_recipe(recipe)) == config


def test_words_from_the_command_line_get_their_types() -> None:
    config = configs.from_mapping(
        Outer, {"rate": "1e-3", "limit": "off", "kind": "y", "inner": {"width": "1_000"}}
    )
    assert config == Outer(rate=1e-3, limit=None, kind="y", inner=Inner(width=1000))


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"nam": 1}, "name"),
        ({"inner": {"widht": 1}}, "width"),
        ({"rate": "fast"}, "float"),
        ({"kind": "z"}, "x or y"),
        ({"limit": 1.5}, "int"),
        ({"limit": True}, "int"),
    ],
)
def test_what_does_not_fit_is_named(mapping: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        configs.from_mapping(Outer, mapping)


def test_a_broken_recipe_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(UserError, match="TOML"):
        configs.read_recipe(tmp_path / "bad.toml")
    with pytest.raises(UserError, match="missing"):
        configs.read_recipe(tmp_path / "none.toml")


def test_a_recipe_as_editors_on_windows_save_it(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_bytes('name = "ü"\r\n'.encode("utf-8-sig"))
    assert configs.read_recipe(recipe) == {"name": "ü"}
    for encoding in ("utf-16", "latin-1"):
        recipe.write_bytes('name = "ü"'.encode(encoding))
        with pytest.raises(UserError, match=r"not in UTF-8; the file saved again as UTF-8"):
            configs.read_recipe(recipe)
