"""The sizes must fit each other, and what does not fit is said with what to type."""

import subprocess
import sys

import pytest

from groundup.base.errors import UserError
from groundup.model.config import GPTConfig


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"d_model": 100, "n_heads": 3}, "n_heads=2"),
        ({"n_heads": 6, "n_kv_heads": 4}, "n_kv_heads=3"),
        ({"d_model": 15, "n_heads": 5}, "even d_head"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"d_ff": 0}, "d_ff is 0"),
        ({"norm_eps": 0.0}, "norm_eps"),
    ],
)
def test_a_wrong_size_is_an_error_that_says_what_fits(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        GPTConfig(**wrong)  # type: ignore[arg-type]


def test_an_odd_head_is_fine_without_rotary_positions() -> None:
    assert GPTConfig(d_model=15, n_heads=5, positions="learned").head_width == 3


def test_an_unknown_choice_names_the_known_ones() -> None:
    # In a process of its own: under pytest the type checker would answer first.
    code = "from groundup.model.config import GPTConfig; GPTConfig(norm='batch')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UserError: norm is 'batch'. One of rms, layer is expected." in done.stderr


def test_unknown_gpt2_size_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="124M, 355M, 774M, 1558M"):
        GPTConfig.gpt2("125M")


def test_config_and_count_load_no_torch() -> None:
    code = "import sys, groundup.model.config, groundup.model.count; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
