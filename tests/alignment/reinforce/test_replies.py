"""Prompts, sampled replies, rewards, and the batches made of them."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from digit_reward import starts_with_digit

from groundup.alignment.reinforce.config import ReinforceConfig
from groundup.alignment.reinforce.loss import policy_loss
from groundup.alignment.reinforce.prompts import Item, make_items
from groundup.alignment.reinforce.replies import (
    Reply,
    copied_frac,
    equals_answer,
    reward_of,
    sample_replies,
)
from groundup.alignment.reinforce.rollouts import Rollouts, read_log
from groundup.base.errors import UserError
from groundup.evaluation.load import LanguageModel, load
from groundup.finetune.batches import token_log_probabilities
from groundup.model.lora import add_lora, lora_parameters
from groundup.model.lora_config import LoRAConfig
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.special import END
from groundup.tokenizer.template import Message


@pytest.fixture
def language_model(run: Path) -> LanguageModel:
    return load(run)


def pair_of(line: str) -> tuple[int, ...]:
    return tuple(sorted(int(word) for word in line.split() if word.isdecimal())[:2])


def test_additions_of_the_test_set_are_in_no_training_prompt(
    config: ReinforceConfig, language_model: LanguageModel
) -> None:
    items = make_items(replace(config, shots=3, max_number=20), language_model)
    assert len(items.test) == 60
    test = {pair_of(item.prompt.splitlines()[-1]) for item in items.test}
    assert len(test) == 60
    for item in items.train:
        *solved, question = item.prompt.splitlines()
        assert pair_of(question) not in test
        a, b = (int(word) for word in question.split() if word.isdecimal())
        assert item.answer == str(a + b)
        for line in solved:
            numbers = [int(word) for word in line.split() if word.isdecimal()]
            assert numbers[0] + numbers[1] == numbers[2]
            assert tuple(sorted(numbers[:2])) not in test
    assert [i.ids for i in make_items(config, language_model).test] == [
        i.ids for i in make_items(config, language_model).test
    ]


def write_prompts(folder: Path, records: list[dict[str, Any]]) -> Path:
    file = folder / "prompts.json"
    file.write_text(json.dumps(records))
    return file


def test_fewer_prompts_than_a_batch_are_refused(
    config: ReinforceConfig, language_model: LanguageModel, tmp_path: Path
) -> None:
    records = [{"prompt": f"{n} + 1 =", "completion": f"{n + 1}"} for n in range(70)]
    file = write_prompts(tmp_path, records)
    config = replace(config, prompts=file, test_items=30, batch_size=64)
    with pytest.raises(UserError, match=r"40 prompts are left.*Try: batch_size=40"):
        make_items(config, language_model)


def test_prompts_of_a_file(
    config: ReinforceConfig, language_model: LanguageModel, tmp_path: Path
) -> None:
    records = [{"prompt": f"{i} + {i} =", "completion": f" {2 * i} "} for i in range(70)]
    empty = [{"prompt": "1 + 1 =", "completion": ""}] * 3
    file = write_prompts(tmp_path, records + records[:20] + empty)
    settings: dict[str, Any] = {"prompts": file, "test_items": 30, "skip_empty": True}
    items = make_items(replace(config, **settings), language_model)
    assert len(items.test) == 30
    assert items.reading.total() == 3
    taken = {item.prompt for item in items.test}
    assert not taken & {item.prompt for item in items.train}
    assert items.n_repeated == 60 - len(items.train) > 0
    assert items.test[0].answer == str(2 * pair_of(items.test[0].prompt)[0])
    with pytest.raises(UserError, match="The file has 90 prompts"):
        make_items(replace(config, **settings | {"test_items": 60}), language_model)
    turns = ["Name a number", "7", "Add one.", "8"]
    roles = ["user", "assistant"] * 2
    messages = [{"role": a, "content": b} for a, b in zip(roles, turns, strict=True)]
    talk = write_prompts(tmp_path, [{"messages": messages}] * 70)
    with pytest.raises(UserError, match="has 3 messages before its answer"):
        make_items(replace(config, prompts=talk, test_items=30), language_model)
    long = write_prompts(tmp_path, [{"prompt": "1 + " * 20, "completion": "1"} for _ in range(70)])
    with pytest.raises(UserError, match="fit in the context"):
        make_items(replace(config, prompts=long, test_items=30), language_model)


def test_prompts_of_an_assistant_are_written_as_in_chat(
    config: ReinforceConfig, language_model: LanguageModel, tmp_path: Path
) -> None:
    assistant = replace(language_model, is_assistant=True)
    records = [{"prompt": f"{i} + {i}", "completion": str(2 * i)} for i in range(70)]
    file = write_prompts(tmp_path, records)
    items = make_items(replace(config, prompts=file, test_items=30), assistant)
    item = items.test[0]
    messages = [Message("user", item.prompt)]
    ids, _ = render_ids(messages, assistant.tokenizer, add_generation_prompt=True)
    assert list(item.ids) == ids
    end = assistant.tokenizer.special_tokens[END]
    for reply in sampled(assistant, [item], max_new_tokens=12)[0]:
        assert reply.is_complete == (reply.ids[-1] in assistant.stop_ids)
    assert end in assistant.stop_ids
    assert not item.ends_at_newline


def test_settings_that_cannot_work(config: ReinforceConfig, language_model: LanguageModel) -> None:
    with pytest.raises(UserError, match="too few to compare"):
        make_items(replace(config, test_items=29), language_model)
    with pytest.raises(UserError, match="There are 66 pairs") as error:
        make_items(replace(config, max_number=11), language_model)
    settings: Any = error.value.settings
    make_items(replace(config, max_number=11, **settings), language_model)
    with pytest.raises(UserError, match="There are 6 pairs") as error:
        make_items(replace(config, max_number=3), language_model)
    settings = error.value.settings
    make_items(replace(config, **settings), language_model)
    with pytest.raises(UserError, match="above most_start"):
        replace(config, least_start=0.7)
    with pytest.raises(UserError, match="epochs is set, and so is the number of steps"):
        replace(config, epochs=3.0)


def some(language_model: LanguageModel, config: ReinforceConfig) -> list[Item]:
    return make_items(config, language_model).train[:6]


def sampled(language_model: LanguageModel, items: list[Item], **more: Any) -> list[list[Reply]]:
    settings: dict[str, Any] = {"max_new_tokens": 8, "dtype": torch.float32, "seed": 3, **more}
    return sample_replies(language_model, items, 4, **settings)


def test_replies_keep_the_token_that_ends_them(
    config: ReinforceConfig, language_model: LanguageModel
) -> None:
    groups = sampled(language_model, some(language_model, config))
    end = language_model.tokenizer.encode("\n")[0]
    replies = [reply for group in groups for reply in group]
    complete = [reply for reply in replies if reply.is_complete]
    assert 0 < len(complete) < len(replies)
    stops = {end, *language_model.stop_ids}
    for reply in replies:
        assert reply.is_complete == (reply.ids[-1] in stops)
        assert not set(reply.ids[:-1]) & stops
        assert len(reply.ids) <= 8
        assert "\n" not in reply.text
        shown = reply.ids[:-1] if reply.is_complete else reply.ids
        assert reply.text == language_model.tokenizer.decode(list(shown))


def test_replies_depend_on_seed_and_adapters_only(
    config: ReinforceConfig, language_model: LanguageModel
) -> None:
    items = some(language_model, config)
    first = sampled(language_model, items)
    assert sampled(language_model, items) == first
    assert sampled(language_model, items, seed=4) != first
    add_lora(language_model.model, LoRAConfig(rank=2), seed=0)
    assert sampled(language_model, items) == first
    for parameter in lora_parameters(language_model.model).values():
        parameter.data += 1.0
    assert sampled(language_model, items) != first


def test_replies_are_drawn_from_the_distribution_of_the_model(
    config: ReinforceConfig, language_model: LanguageModel
) -> None:
    item = some(language_model, config)[0]
    replies = sample_replies(
        language_model, [item], 2000, max_new_tokens=1, dtype=torch.float32, seed=0
    )[0]
    with torch.no_grad():
        logits = language_model.model(torch.tensor([item.ids]))[0, -1]
    expected = logits.softmax(-1)
    found = torch.bincount(
        torch.tensor([reply.ids[0] for reply in replies]), minlength=len(expected)
    )
    assert (found / 2000 - expected).abs().max() < 0.04


ITEM = Item("2 + 3 =", "5", (1, 2), True, "additions.json:7")


def test_the_reward_is_strict_and_a_cut_reply_has_none() -> None:
    assert equals_answer("", " 5 ", "5") == 1
    assert equals_answer("", "5.", "5") == equals_answer("", "the 5", "5") == 0
    assert reward_of(equals_answer, ITEM, Reply((5, 0), " 5", True)) == 1
    assert reward_of(equals_answer, ITEM, Reply((5,), " 5", False)) == 0
    assert copied_frac(ITEM, Reply((), "2 + 9", True)) == pytest.approx(2 / 3)
    assert copied_frac(ITEM, Reply((), "", True)) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "good", [1]])
def test_a_reward_that_is_no_finite_number_is_an_error_with_the_prompt(value: Any) -> None:
    with pytest.raises(UserError) as error:
        reward_of(lambda *_: value, ITEM, Reply((5, 0), " 5", True))
    assert error.value.where == "additions.json:7"
    assert f"returned {value!r} for the reply ' 5' to the prompt '2 + 3 ='" in error.value.message


def test_a_reward_that_raises_is_an_error_with_the_prompt() -> None:
    with pytest.raises(UserError) as error:
        reward_of(lambda *_: 1 / 0, ITEM, Reply((5, 0), " 5", True))
    assert error.value.where == "additions.json:7"
    assert "raised ZeroDivisionError: division by zero, for the reply ' 5'" in error.value.message


def rollouts(language_model: LanguageModel, config: ReinforceConfig) -> Rollouts:
    return Rollouts(
        language_model=language_model,
        items=make_items(config, language_model).train,
        reward=starts_with_digit,
        config=config,
        dtype=torch.float32,
    )


def test_groups_with_equal_rewards_are_in_the_log_and_not_in_the_batch(
    config: ReinforceConfig, language_model: LanguageModel, tmp_path: Path
) -> None:
    made = rollouts(language_model, replace(config, batch_size=16, group_size=3))
    made.before_step(0)
    made.write(tmp_path / "log", 1)
    ids, targets, weights = made.batch(0)
    line = json.loads((tmp_path / "log").read_text())
    n_used = 16 - line["n_equal_groups"]
    assert 0 < n_used < 16
    assert len(ids) == len(targets) == len(weights) == 3 * n_used
    assert (weights != 0).all()
    torch.testing.assert_close(weights.view(-1, 3).sum(1), torch.zeros(n_used), atol=1e-6, rtol=0)
    # The loss is the mean over all replies, as if the equal groups were there with no advantage.
    model = language_model.model
    log_probabilities = token_log_probabilities(model, ids, targets)
    small = policy_loss(log_probabilities, targets, weights, max_new_tokens=8)
    whole = -(log_probabilities.exp() / log_probabilities.exp() * (targets != -100)).sum(1)
    advantages = weights * 48 / len(ids)
    assert small.item() == pytest.approx((whole * advantages).sum().item() / (48 * 8), abs=1e-6)
    with_kl = rollouts(language_model, replace(config, batch_size=16, group_size=3, kl_weight=0.1))
    with_kl.before_step(0)
    assert len(with_kl.batch(0)[0]) == 48


def test_targets_are_the_sampled_tokens_and_nothing_of_the_prompt(
    config: ReinforceConfig, language_model: LanguageModel, tmp_path: Path
) -> None:
    made = rollouts(language_model, config)
    made.before_step(3)
    ids, targets, _ = made.batch(3)
    for row, wanted in zip(ids.tolist(), targets.tolist(), strict=True):
        places = [t for t, target in enumerate(wanted) if target != -100]
        assert places == list(range(places[0], places[-1] + 1))
        for t in places[:-1]:
            assert wanted[t] == row[t + 1]
        assert language_model.tokenizer.decode(row[: places[0] + 1]).endswith("=")


def test_a_batch_of_another_number_has_the_largest_size(
    config: ReinforceConfig, language_model: LanguageModel, tmp_path: Path
) -> None:
    made = rollouts(language_model, config)
    ids, targets, weights = made.batch(5)
    longest = max(len(item.ids) for item in made.items)
    assert ids.shape == targets.shape == (64, longest + 7)
    assert len(weights) == 64


def test_the_log_continues_where_a_resumed_run_does(
    config: ReinforceConfig, language_model: LanguageModel, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    made = rollouts(language_model, config)
    for k in range(4):
        made.before_step(k)
        made.write(log, k + 1)
    before = log.read_text().splitlines()
    log.write_text("\n".join(before)[:-9])  # killed while it was written
    assert len(read_log(log)) == 3
    resumed = rollouts(language_model, config)
    resumed.before_step(0)  # a budget measures some steps first
    resumed.before_step(2)
    resumed.write(log, 3)
    assert log.read_text().splitlines() == before[:3]
