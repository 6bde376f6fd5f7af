import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_runs import MODEL, TEXT, KilledError, assert_same_weights, kill_at, make_data, settings

from groundup.base.config import from_mapping, read_recipe
from groundup.base.errors import UserError
from groundup.base.files import sha256_bytes
from groundup.data.store import TokenStore
from groundup.evaluation.load import load
from groundup.pretraining.pretrain import pretrain
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.train.config import PretrainConfig
from groundup.train.step import Step


def test_leaves_a_whole_run_folder(data):
    seen: list[Step] = []
    samples: list[tuple[int, str]] = []
    result = pretrain(settings(data), seen.append, lambda *sample: samples.append(sample))
    run = result.run
    for name in ("README.md", "config.toml", "manifest.json", "log.txt", "metrics.jsonl"):
        assert (run / name).is_file(), name
    assert [step.step for step in seen] == list(range(1, 13))
    assert [step for step, _ in samples] == [6, 12]
    assert (run / "samples" / "step-000006.txt").read_text() == samples[0][1] + "\n"
    assert result.validation_loss_nats < result.first_validation_loss_nats
    assert abs(result.first_validation_loss_nats - np.log(load(run).tokenizer.vocab_size)) < 0.3
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[0]["weight"] != rows[1]["weight"]
    assert {"loss_nats", "grad_norm", "elapsed_s", "targets_per_s"} <= rows[0].keys()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["train_fingerprint"] == TokenStore.open(data / "train").fingerprint
    assert "finished_at" in manifest
    assert sorted(p.name for p in (run / "checkpoints").iterdir() if p.is_dir())[-2:] == [
        "step-000010",
        "step-000012",
    ]


def test_load_opens_the_best_checkpoint(data):
    result = pretrain(settings(data))
    opened = load(result.run)
    assert opened.path.name == f"step-{result.best_step:06d}"
    assert opened.tokenizer.decode(opened.tokenizer.encode("the fox")) == "the fox"


def test_the_written_config_repeats_the_run(data):
    first = pretrain(settings(data))
    again = from_mapping(PretrainConfig, read_recipe(first.run / "config.toml"))
    second = pretrain(again)
    assert second.run == first.run.with_name("run-2")
    assert_same_weights(first.run, second.run)


@pytest.mark.parametrize("killed_at", [1, 4, 5, 9, 11])
def test_killed_and_resumed_ends_with_the_same_weights(data, killed_at):
    undisturbed = pretrain(settings(data, out=data.parent / "whole"))
    with pytest.raises(KilledError):
        pretrain(settings(data), kill_at(killed_at))
    steps: list[Step] = []
    result = pretrain(settings(data), steps.append)
    assert result.run == data.parent / "run"
    assert steps[0].step <= killed_at + 1
    assert result.resumed_from_step == steps[0].step - 1
    assert_same_weights(undisturbed.run, result.run)
    rows = [json.loads(x) for x in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert result.best_step == undisturbed.best_step
    assert result.n_targets == undisturbed.n_targets


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_leave_a_checkpoint_at_the_very_step(data, number):
    def interrupt(step: Step) -> None:
        if step.step == 7:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    undisturbed = pretrain(settings(data, out=data.parent / "whole"))
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(data), interrupt)
    assert (data.parent / "run/checkpoints/latest").read_text() == "step-000007\n"
    assert signal.getsignal(number) is before
    result = pretrain(settings(data))
    assert result.resumed_from_step == 7
    assert_same_weights(undisturbed.run, result.run)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(data, caplog):
    undisturbed = pretrain(settings(data, out=data.parent / "whole"))
    with pytest.raises(KilledError):
        pretrain(settings(data), kill_at(11))
    newest = sorted((data.parent / "run/checkpoints").glob("step-*"))[-1]
    weights = newest / "optimizer.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-3] ^= 1
    weights.write_bytes(damaged)
    result = pretrain(settings(data))
    assert f"{weights}: This file is damaged" in caplog.text
    assert 0 < result.resumed_from_step < int(newest.name[5:])
    assert_same_weights(undisturbed.run, result.run)


@pytest.mark.parametrize("harm", ["damaged", "of another version"])
def test_checkpoints_that_cannot_be_read_are_not_begun_over(data, harm):
    with pytest.raises(KilledError):
        pretrain(settings(data), kill_at(11))
    checkpoints = data.parent / "run/checkpoints"
    for state in checkpoints.glob("step-*/state.json"):
        if harm == "damaged":
            state.write_text("{")
        else:
            values = json.loads(state.read_text())
            values.pop("sha256")
            values["version"] = 2
            digest = sha256_bytes(json.dumps(values, sort_keys=True).encode())
            state.write_text(json.dumps({**values, "sha256": digest}))
    before = sorted(checkpoints.rglob("*"))
    with pytest.raises(UserError, match=r"All checkpoints of this run are damaged.*out="):
        pretrain(settings(data))
    assert sorted(checkpoints.rglob("*")) == before


def test_a_run_that_ended_before_it_began_leaves_its_name_free(data):
    run = data.parent / "run"
    run.mkdir()
    for name in ("log.txt", ".lock", ".config.toml.abcd1234.tmp"):
        (run / name).write_text("")
    assert pretrain(settings(data)).run == run


def test_a_second_process_is_told_to_wait(data):
    # Without dropout, for the second one is in this process, too, and sets its random state.
    model = dataclasses.replace(MODEL, dropout=0.0)

    def start_another(step: Step) -> None:
        if step.step == 3:
            with pytest.raises(UserError, match="Another process is training"):
                pretrain(settings(data, model=model))

    undisturbed = pretrain(settings(data, model=model, out=data.parent / "whole"))
    result = pretrain(settings(data, model=model), start_another)
    assert_same_weights(undisturbed.run, result.run)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("checkpoint_every", (0, -1)),
        ("grad_accumulation_steps", (0, -2, 5)),
        ("validation_windows", (0, -1)),
        ("max_grad_norm", (0.0, -1.0, float("nan"))),
        ("learning_rate", (0.0, -1.0, float("nan"), float("inf"))),
        ("weight_decay", (-1.0, float("nan"))),
        ("momentum", (-0.1, 2.0)),
        ("decay_frac", (-0.1, 1.1)),
        ("steps", (0,)),
        ("batch_size", (0,)),
    ],
)
def test_settings_out_of_their_range_are_refused_before_anything_is_made(data, name, values):
    for value in values:
        with pytest.raises(UserError, match=rf"{name} is .*is expected|cannot be split"):
            settings(data, **{name: value})
    assert not (data.parent / "run").exists()


def test_other_settings_get_a_folder_of_their_own(data):
    with pytest.raises(KilledError):
        pretrain(settings(data), kill_at(6))
    other = pretrain(settings(data, seed=7))
    assert other.run.name == "run-2"
    assert pretrain(settings(data)).run.name == "run"


def test_a_folder_prepared_by_a_story_is_used(data):
    (data.parent / "run" / "story").mkdir(parents=True)
    assert pretrain(settings(data)).run == data.parent / "run"


def test_changed_data_is_refused_on_resume(data):
    with pytest.raises(KilledError):
        pretrain(settings(data), kill_at(6))
    make_data(data, TEXT + "and the dog barks.")
    with pytest.raises(UserError, match=r"The text has changed .* Try: out='.*run-2'"):
        pretrain(settings(data))


def test_checkpoint_of_another_tokenizer_is_refused(data):
    with pytest.raises(KilledError):
        pretrain(settings(data), kill_at(6))
    make_data(data, TEXT.upper(), TEXT[:300].upper())
    with pytest.raises(UserError, match="use different tokenizers"):
        pretrain(settings(data))


def test_stores_of_another_tokenizer_are_refused(data):
    CharacterTokenizer.from_text(TEXT + "XYZ").save(data / "tokenizer")
    with pytest.raises(UserError, match=r"another tokenizer.*groundup encode"):
        pretrain(settings(data))


def test_no_data_and_too_short_a_text(data, tmp_path):
    with pytest.raises(UserError, match=r"data folder does not exist.*groundup prepare"):
        pretrain(settings(tmp_path / "nowhere"))
    long = dataclasses.replace(MODEL, context_length=5000)
    with pytest.raises(UserError, match="too few"):
        pretrain(settings(data, model=long))


def test_a_rate_that_explodes_names_the_cause(data):
    with pytest.raises(UserError, match="learning rate below"):
        pretrain(settings(data, optimizer="adamw", learning_rate=1e30))


@pytest.mark.slow
def test_kill_9_at_any_moment(data):
    """A real process, killed without warning again and again until one comes to the end.

    Every step writes a checkpoint, so that most kills fall into the writing of one.
    """
    often = {"checkpoint_every": 1, "steps": 40, "keep_checkpoints": 1}
    whole = pretrain(settings(data, out=data.parent / "whole", **often))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from small_runs import settings; from groundup.pretraining.pretrain import pretrain;"
        f"pretrain(settings(Path(sys.argv[2]), **{often}), lambda s: print(s.step, flush=True))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(data)]
    chance = random.Random(0)
    n_kills = 0
    for _ in range(30):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # a first step is made, so that each life gets on
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        if process.wait() == 0:
            break
        n_kills += 1
    result = pretrain(settings(data, **often))
    assert n_kills >= 5
    run = data.parent / "run"
    left, right = (
        load_file(r / "checkpoints/step-000040/model.safetensors") for r in (whole.run, run)
    )
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name
    assert not list((result.run / "checkpoints").glob(".*"))


@pytest.mark.parametrize("changes", [{"batch_size": 10**9}, {"d_model": 10**6}])
def test_what_can_never_fit_in_memory_is_refused_at_once(data, changes):
    model = dataclasses.replace(MODEL, d_model=changes.pop("d_model", 16))
    config = settings(data, model=model, **changes)
    with pytest.raises(UserError, match=r"GB are free.*Try: (grad_acc|n_layers=)"):
        pretrain(config)
    assert not config.out.exists()
