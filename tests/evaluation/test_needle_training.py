"""The recipe for needles: a layer that sees everything finds them; windows alone do not."""

from pathlib import Path

import pytest

import groundup
from groundup.base.config import from_mapping, read_recipe
from groundup.base.fields import replace_settings
from groundup.data.pipeline import prepare_and_encode, train_and_encode
from groundup.evaluation.intervals import wilson
from groundup.evaluation.needle import NeedleRecall
from groundup.pretraining.pretrain import pretrain
from groundup.train.config import PretrainConfig

RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain" / "needles.toml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("needles") / "data"
    prepare_and_encode(sources=("needles",), out=folder, audit=False)
    train_and_encode(data=folder, vocab_size=768)
    return folder


def trained(data: Path, out: Path, **settings: object) -> NeedleRecall:
    config = from_mapping(PretrainConfig, read_recipe(RECIPE))
    pretrain(replace_settings(config, data=data, out=out, device="cpu", **settings))
    return groundup.measure_needle(out, needle=8192, device="cpu")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_wg_finds_needles_at_8192_tokens(data: Path, tmp_path: Path) -> None:
    found = trained(data, tmp_path / "run")
    assert min(each.recall.value for each in found.depths) >= 0.9


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_windows_alone_find_none_that_they_do_not_reach(data: Path, tmp_path: Path) -> None:
    found = trained(data, tmp_path / "run", layers="ww", steps=200)
    assert min(each.n_back for each in found.depths) > 2 * 63
    n, right = (sum(getattr(each.recall, key) for each in found.depths) for key in ("n", "n_right"))
    assert wilson(right, n).low <= found.chance
