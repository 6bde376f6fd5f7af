"""The decoder computes what `GPT.forward` computes, for every architecture and order of rows."""

import dataclasses
import random

import pytest
import torch
from decoder_models import CONFIGS, lively, text, whole
from torch import Tensor

from groundup.base.errors import UserError
from groundup.generation import decoder as decoder_module
from groundup.generation.decoder import Decoder, Row
from groundup.generation.rows import MOST_DRAFT
from groundup.model.config import GPTConfig


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_logits_equal_those_of_the_model(config: GPTConfig) -> None:
    model, ids = lively(config), text(40)
    expected, decoder = whole(model, ids), Decoder(model)
    row = decoder.new_row()
    close(decoder.read(ids, row, n_last=40), expected)
    assert row.ids == ids
    assert row.length == 40
    row = decoder.new_row()  # in parts: a prompt, a token, some tokens, a token
    for start, stop in ((0, 7), (7, 8), (8, 20), (20, 21)):
        close(decoder.read(ids[start:stop], row)[0], expected[stop - 1])
    for at in range(21, 40):
        close(decoder.step([ids[at]], [row])[0], expected[at])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_rows_of_different_lengths_join_and_leave(config: GPTConfig) -> None:
    model = lively(config)
    decoder = Decoder(model)
    texts = [text(30, seed) for seed in range(5)]
    expected = [whole(model, ids) for ids in texts]
    rows = [decoder.new_row() for _ in texts]
    begins, ends = [1, 5, 17, 3, 2], [30, 12, 30, 25, 20]
    for step in range(40):
        joining = [i for i in range(5) if step == 2 * i]
        for i in joining:
            close(decoder.read(texts[i][: begins[i]], rows[i])[0], expected[i][begins[i] - 1])
        active = [i for i in range(5) if step >= 2 * i and rows[i].length < ends[i]]
        if not active:
            continue
        active = active[::-1] if step % 2 else active  # in any order
        logits = decoder.step([texts[i][rows[i].length] for i in active], [rows[i] for i in active])
        for i, found in zip(active, logits, strict=True):
            close(found, expected[i][rows[i].length - 1])
    assert [row.length for row in rows] == ends


def test_a_truncated_row_continues_as_if_the_rest_was_never_read() -> None:
    model, ids = lively(CONFIGS["ours"]), text(40)
    decoder, expected = Decoder(model), whole(lively(CONFIGS["ours"]), ids)
    row = decoder.new_row()
    decoder.read(ids[:20] + text(9, seed=5), row)
    row.truncate(20)
    assert row.ids == ids[:20]
    close(decoder.step([ids[20]], [row])[0], expected[20])
    close(decoder.read(ids[21:], row)[0], expected[-1])


LONG = dataclasses.replace(CONFIGS["window in one layer"], context_length=400, n_layers=3)


def test_a_ring_stores_what_the_mask_of_a_window_leaves() -> None:
    model = lively(LONG)
    decoder = Decoder(model)
    ids = text(330)
    expected = whole(model, ids)
    row, other = decoder.new_row(), decoder.new_row(330)
    close(decoder.read(ids[:200], row, n_last=200), expected[:200])  # the ring is shorter
    for at in range(200, 300):
        if at in (210, 250, 280):  # drafts that are rejected
            decoder.read(text(MOST_DRAFT if at == 210 else 4, seed=at), row)
            row.truncate(at)
            assert row.ids == ids[:at]
        if at == 240:
            decoder.read(ids[:230], other)
        both = at >= 240
        logits = decoder.step([ids[at], *[ids[at - 10]] * both], [row, *[other] * both])
        close(logits[0], expected[at])
        if both:
            close(logits[1], expected[at - 10])
    close(decoder.read(ids[300:], row)[0], expected[-1])
    with pytest.raises(UserError, match="65 positions cannot be removed"):
        row.truncate(265)
    row.truncate(266)
    whole_row = Decoder(lively(dataclasses.replace(LONG, sliding_window=None, sliding_layers=None)))
    assert other.n_bytes < 0.75 * whole_row.new_row(330).n_bytes


def test_prompts_longer_than_a_chunk_are_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "CHUNK", 50)
    for config in (LONG, dataclasses.replace(CONFIGS["n-grams"], context_length=400)):
        model, ids = lively(config), text(230)
        decoder = Decoder(model)
        close(decoder.read(ids, decoder.new_row(), n_last=120), whole(model, ids)[-120:])


def test_memory_follows_what_is_asked_and_is_freed_with_the_row() -> None:
    config = dataclasses.replace(CONFIGS["ours"], context_length=4096)
    decoder = Decoder(lively(config))
    per_position = 2 * 4 * config.n_layers * config.kv_heads * config.head_width
    row = decoder.new_row(100)
    assert row.n_bytes == decoder.n_bytes == 144 * per_position
    decoder.read(text(100), row)
    for token in text(60, seed=1):
        decoder.step([token], [row])
    assert row.n_bytes == decoder.n_bytes == 208 * per_position
    rows = [decoder.new_row(1000) for _ in range(4)]
    assert decoder.n_bytes >= (4 * 1040 + 208) * per_position
    del rows
    decoder.step([1], [row])
    assert decoder.n_bytes == 208 * per_position
    assert decoder.new_row(10_000).n_bytes == 4112 * per_position


def test_rows_stay_right_while_others_come_and_go() -> None:
    config = dataclasses.replace(CONFIGS["ours"], context_length=300)
    model, generator = lively(config), random.Random(3)
    decoder = Decoder(model)
    texts = [text(280, seed) for seed in range(6)]
    expected = [whole(model, ids) for ids in texts]
    rows: dict[int, Row] = {}
    for _ in range(120):
        i = generator.randrange(6)
        if i not in rows:
            rows[i] = decoder.new_row(generator.choice([None, 150, 300]))
            n = generator.randrange(1, 60)
            close(decoder.read(texts[i][:n], rows[i])[0], expected[i][n - 1])
        elif generator.random() < 0.2 or rows[i].length > 240:
            del rows[i]
        else:
            n = generator.randrange(1, 40)
            start = rows[i].length
            found = decoder.read(texts[i][start : start + n], rows[i], n_last=n)
            close(found, expected[i][start : start + n])
            rows[i].truncate(start + n // 2 + 1)
        chosen = generator.sample(sorted(rows), generator.randint(0, len(rows)))
        if chosen:
            logits = decoder.step(
                [texts[j][rows[j].length] for j in chosen], [rows[j] for j in chosen]
            )
            close(logits, torch.stack([expected[j][rows[j].length - 1] for j in chosen]))


def test_ids_without_a_token_have_no_probability() -> None:
    model = lively(CONFIGS["ours"])
    model.n_used_ids = 50
    decoder = Decoder(model)
    row = decoder.new_row()
    assert decoder.read([1, 2], row)[0, 50:].isneginf().all()
    logits = decoder.step([3], [row])
    assert logits[0, 50:].isneginf().all()
    assert logits[0, :50].isfinite().all()


def test_errors_have_both_numbers() -> None:
    decoder = Decoder(lively(CONFIGS["ours"]))
    row = decoder.new_row(1000)
    with pytest.raises(UserError, match=r"49 tokens do not fit in the model's context of 48"):
        decoder.read(text(49), row)
    assert row.length == 0
    decoder.read(text(48), row)
    with pytest.raises(UserError, match=r"49 tokens do not fit in the model's context of 48"):
        decoder.step([1], [row])
    assert row.length == 48
    for wrong in ([], [60], [-1]):
        with pytest.raises(UserError, match="token ids"):
            decoder.read(wrong, decoder.new_row())
    with pytest.raises(UserError, match="2 tokens for 1 rows"):
        decoder.step([1, 2], [decoder.new_row()])
    with pytest.raises(UserError, match="has 48 positions"):
        row.truncate(49)


@pytest.mark.parametrize("name", ["ours", "gpt2"])
def test_deterministic_logits_have_the_same_bits_alone_and_beside_others(name: str) -> None:
    config = dataclasses.replace(CONFIGS[name], d_model=96, d_head=24)  # several blocks of columns
    decoder = Decoder(lively(config), deterministic=True)
    prompt, answer = text(9, seed=3), text(20, seed=4)

    def alone() -> list[Tensor]:
        row = decoder.new_row(48)
        found = [decoder.read(prompt, row)[0]]
        return found + [decoder.step([token], [row])[0] for token in answer]

    expected = alone()
    others = [decoder.new_row(48) for _ in range(15)]
    row = decoder.new_row(48)
    found = [decoder.read(prompt, row)[0]]
    for step, token in enumerate(answer):
        if step < 15:  # one more joins at each step
            decoder.read(text(1 + step, seed=step), others[step])
        present = [other for other in others if other.length]
        at = step % (len(present) + 1)
        batch = [*present[:at], row, *present[at:]]
        tokens = [7] * len(batch)
        tokens[at] = token
        found.append(decoder.step(tokens, batch)[at])
        if step == 12:
            del present, batch
            others[:3] = [decoder.new_row(48) for _ in range(3)]  # the others move in memory
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)
