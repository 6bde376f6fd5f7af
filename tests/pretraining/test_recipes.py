"""Every recipe is read by the one config loader, and says what it claims."""

from pathlib import Path

import pytest

from groundup.base.config import from_mapping, read_recipe
from groundup.model.count import count_parameters
from groundup.planning.config import PlanConfig
from groundup.train.config import PretrainConfig

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "pretrain").glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("config", [PretrainConfig, PlanConfig])
def test_recipe_is_understood(recipe, config):
    assert from_mapping(config, read_recipe(recipe)).steps >= 1


def test_the_course_model_has_its_known_size():
    path = next(path for path in RECIPES if path.stem == "gpt2-124M-verdict")
    mapping = read_recipe(path)
    # The course counts a context of 1,024 and GPT-2's vocabulary.
    mapping["model"] |= {"context_length": 1024, "vocab_size": 50_257}
    assert count_parameters(from_mapping(PretrainConfig, mapping).model) == 163_009_536
