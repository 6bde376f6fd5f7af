"""Names of other tools, typing errors, and values that look like options."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from groundup.cli import main as cli
from groundup.cli.main import main
from groundup.cli.mistakes import _EXPLAINED, _OTHER_NAMES
from groundup.cli.options import options_of
from groundup.cli.verbs import VERBS


@pytest.mark.parametrize(
    ("command", "typed", "meant"),
    [
        ("pretrain", "--lr", "--learning-rate"),
        ("encode", "--force", "--overwrite"),
        ("prepare", "--replace", "--overwrite"),
        ("pretrain", "--grad-clip", "--max-grad-norm"),
        ("pretrain", "--hidden-size", "--d-model"),
        ("pretrain", "--resume", "same command"),
        ("pretrain", "--resume-from-checkpoint", "same command"),
        ("pretrain", "--amp", "--dtype"),
        ("pretrain", "--epochs", "--steps"),
        ("pretrain", "--num_train_epochs", "--steps"),
        ("pretrain", "--per_device_train_batch_size", "--batch-size"),
        ("pretrain", "--gradient_accumulation_steps", "--grad-accumulation-steps"),
        ("pretrain", "--max_seq_length", "--context-length"),
        ("pretrain", "--block_size", "--context-length"),
        ("pretrain", "--n_layer", "--n-layers"),
        ("pretrain", "--n_embd", "--d-model"),
        ("pretrain", "--max_iters", "--steps"),
        ("pretrain", "--eval_interval", "--validate-every"),
        ("pretrain", "--eval_iters", "--validation-windows"),
        ("pretrain", "--decay_lr", "--schedule"),
        ("pretrain", "--min_lr", "--final-frac"),
        ("pretrain", "--lr_scheduler_type", "--schedule"),
        ("pretrain", "--save_total_limit", "--keep-checkpoints"),
        ("pretrain", "--logging_steps", "metrics.jsonl"),
        ("pretrain", "--report_to", "--tensorboard"),
        ("pretrain", "--devices", "--device"),
        ("pretrain", "--precision", "--dtype"),
        ("pretrain", "--num_key_value_heads", "--n-kv-heads"),
        ("pretrain", "--rope_theta", "--rotary-base"),
        ("pretrain", "--tie_word_embeddings", "--tie-embeddings"),
        ("pretrain", "--output_dir", "--out"),
        ("pretrain", "--dataset", "--data"),
        ("pretrain", "--stpes", "--steps"),
        ("plan", "--lr", "--learning-rate"),
        ("generate", "--max_length", "--max-new-tokens"),
        ("generate", "--num_return_sequences", "--samples"),
        ("generate", "--start", "--prompt"),
        ("generate", "--num_samples", "--samples"),
        ("generate", "--temp", "--temperature"),
        ("generate", "--ckpt", "--run"),
        ("generate", "--num_beams", "--top-k"),
        ("generate", "--repeat-penalty", "--repetition-penalty"),
        ("generate", "--guided_json", "--json-schema"),
        ("generate", "--precision", "--dtype"),
        ("generate", "--quantization", "--quantize"),
        ("classify", "--max_length", "--max-tokens"),
        ("classify", "--num_labels", "--n-classes"),
        ("classify", "--test-size", "--test-frac"),
        ("classify", "--lora-r", "--lora-rank"),
        ("instruct", "--dataset", "--data"),
        ("instruct", "--lr", "--learning-rate"),
        ("prepare", "--text-column", "--text-field"),
        ("prepare", "--val-frac", "--validation-frac"),
        ("train-tokenizer", "--type", "--kind"),
        ("chat", "--prompt", "--ask"),
        ("convert", "--to", "--to-format"),
        ("evaluate", "--eval-batch-size", "--batch-size"),
    ],
)
def test_a_name_of_another_tool(
    command: str, typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, typed, "3"]) == 2
    error = capsys.readouterr().err
    assert meant in error
    assert f"Unknown option {typed}" in error


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        ("generate", "--zzz"),
        ("evaluate", "--recompute-all"),
        ("prepare", "--ab"),
        ("tokens", "--lr"),
        ("doctor", "--d-model"),
    ],
)
def test_nothing_is_guessed_from_afar(
    command: str, typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, typed, "3"]) == 2
    error = capsys.readouterr().err
    assert "Did you mean" not in error
    assert "needs a value" not in error


def test_the_tables_name_options_that_exist() -> None:
    ours = {
        f"--{name.replace('_', '-')}" for verb in VERBS for name in options_of(verb.config_class())
    } | {"--config"}
    assert _OTHER_NAMES.keys() <= ours
    foreign = [name for names in _OTHER_NAMES.values() for name in names.split()]
    assert all(name.startswith("--") and "_" not in name for name in [*foreign, *_EXPLAINED])
    for name, names in _OTHER_NAMES.items():
        assert name not in names.split()
        assert len(set(names.split())) == len(names.split())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train", "pretrain"),
        ("eval", "evaluate"),
        ("pretrian", "pretrain"),
        ("finetune", "instruct"),
    ],
)
def test_a_command_of_another_tool(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([typed]) == 2
    assert f"{meant}?" in capsys.readouterr().err
    assert main(["xyz"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


def parse(line: str) -> Any:
    words = shlex.split(line)
    parsed = cli._parse(cli._find(words[0]), words)
    assert parsed is not None
    return parsed[0]


def test_values_that_look_like_options() -> None:
    assert parse("generate --prompt -Once").prompt == "-Once"
    assert parse("explain --text=-Once --layer -1").layer == -1
    assert parse("generate --prompt '--- a rule' --samples 2").prompt == "--- a rule"
    assert parse("tokens --text --flag").text == "--flag"
    assert parse("tokens --text '- item'").text == "- item"
    assert parse("chat --ask '-1 + 2'").ask == "-1 + 2"
    assert parse("prepare a.txt --separator -").separator == "-"
    assert parse("prepare a.txt --separator --").separator == "--"
    assert parse("prepare a.txt --separator ---").separator == "---"
    assert parse("export --out -folder").out == Path("-folder")
    assert parse("explain --layer -1").layer == -1
    assert parse("pretrain --learning-rate 1e-3").optimizer.learning_rate == 1e-3
    assert parse("windows --page").page == Path("windows.html")
    assert parse("windows --page --stride 3").page == Path("windows.html")
    assert parse("windows --page a.html").page == Path("a.html")


@pytest.mark.parametrize(
    "line", ["generate --prompt", "generate --prompt --samples 3", "tokens --text --help"]
)
def test_an_option_after_an_option_is_no_value(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(shlex.split(line))
    seen = capsys.readouterr()
    assert status == (0 if "--help" in line else 2)
    assert "needs a value" in seen.err or "Usage:" in seen.out
    assert main(["generate", "--prompt", "--sampels", "3"]) == 2
    assert "--prompt needs a value" in capsys.readouterr().err
