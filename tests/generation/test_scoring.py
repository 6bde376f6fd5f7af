"""Log-probabilities of continuations agree with the whole forward pass, however they are shared."""

import pytest
import torch
from decoder_models import CONFIGS, lively, text, whole
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.base.errors import UserError
from groundup.generation import scoring
from groundup.generation.decoder import Decoder
from groundup.generation.scoring import Prompt, score, shared_prefixes

EXAMPLES = text(20, seed=1)
PROMPTS = [
    Prompt(ids=[*EXAMPLES, *text(3, seed=2)], continuations=[text(2, seed=3), text(5, seed=4)]),
    Prompt(ids=text(9, seed=5), continuations=[[4], [5], [4, 5, 6]]),
    Prompt(ids=[*EXAMPLES, *text(4, seed=6)], continuations=[[1], [2]]),
    Prompt(ids=[3], continuations=[text(12, seed=7)]),
    Prompt(ids=[*EXAMPLES[:18], *text(6, seed=8)], continuations=[[9, 9], [9, 8]]),
]


def expected(model, prompt, continuation):
    logits = whole(model, [*prompt, *continuation])
    nats = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    best = nats.argmax(-1).tolist() == list(continuation)
    return nats[range(len(continuation)), list(continuation)].sum().item(), best


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("share_prefixes", [True, False])
@pytest.mark.parametrize("n_packed", [2048, 12])
def test_every_architecture(name, share_prefixes, n_packed):
    model = lively(CONFIGS[name])
    decoder = Decoder(model, measure=False)
    found = dict(score(decoder, PROMPTS, share_prefixes=share_prefixes, n_packed=n_packed))
    assert sorted(found) == list(range(len(PROMPTS)))
    for index, prompt in enumerate(PROMPTS):
        for likelihood, continuation in zip(found[index], prompt.continuations, strict=True):
            nats, is_best = expected(model, list(prompt.ids), continuation)
            assert likelihood.nats == pytest.approx(nats, abs=2e-5)
            assert likelihood.is_greedy == is_best
            assert likelihood.n_tokens == len(continuation)


@pytest.mark.parametrize("name", ["ours", "window", "windows and all"])
def test_the_mask_of_a_long_text_is_made_in_parts(name, monkeypatch):
    monkeypatch.setattr(scoring, "PACKED", 6)
    monkeypatch.setattr(scoring, "_ROWS_AT_ONCE", 5)
    made, real = [], scoring._Text.mask

    def mask(*arguments):
        made.append(real(*arguments))
        return made[-1]

    monkeypatch.setattr(scoring._Text, "mask", mask)
    model = lively(CONFIGS[name])
    found = dict(score(Decoder(model, measure=False), PROMPTS))
    for index, prompt in enumerate(PROMPTS):
        for likelihood, continuation in zip(found[index], prompt.continuations, strict=True):
            nats, _ = expected(model, list(prompt.ids), continuation)
            assert likelihood.nats == pytest.approx(nats, abs=2e-5)
    assert max(len(each) for each in made) <= 6 < max(each.shape[1] for each in made)


def test_the_greedy_continuation_is_recognized():
    model = lively(CONFIGS["llama"])
    decoder = Decoder(model, measure=False)
    ids = text(6)
    best: list[int] = []
    for _ in range(3):
        best.append(int(whole(model, ids + best)[-1].argmax()))
    prompt = Prompt(ids=ids, continuations=[best, [*best[:2], (best[2] + 1) % 60]])
    ((_, (yes, no)),) = score(decoder, [prompt])
    assert yes.is_greedy
    assert not no.is_greedy


def test_shared_tokens_are_computed_once():
    decoder = Decoder(lively(CONFIGS["llama"]), measure=False)
    prompts = [
        Prompt(ids=[*EXAMPLES, 1 + i, 30 + i], continuations=[[1, 2], [3, 4, 5]]) for i in range(6)
    ]
    list(score(decoder, prompts))
    # The examples once; of each prompt two tokens, and the continuations without their last token.
    assert decoder.n_computed == 20 + 6 * (2 + 1 + 2)
    decoder.n_computed = 0
    list(score(decoder, prompts, share_prefixes=False))
    assert decoder.n_computed == 6 * (22 + 1 + 22 + 2)


def test_a_prefix_is_shared_by_most_and_not_by_all():
    other = text(20, seed=9)
    prompts = [[*EXAMPLES, i] for i in range(5)] + [[*other, 1, 2], [*other, 1, 3]] + [[1], [2]]
    groups = shared_prefixes(prompts)
    assert sorted(groups) == sorted([(20, [0, 1, 2, 3, 4]), (21, [5, 6]), (0, [7, 8])])


def test_the_last_token_of_a_prompt_is_never_shared():
    assert shared_prefixes([EXAMPLES, EXAMPLES, [*EXAMPLES, 5]]) == [(19, [0, 1, 2])]
    model = lively(CONFIGS["ours"])
    prompts = [Prompt(ids=EXAMPLES, continuations=[[i]]) for i in range(3)]
    found = dict(score(Decoder(model, measure=False), prompts))
    for i in range(3):
        assert found[i][0].nats == pytest.approx(expected(model, EXAMPLES, [i])[0], abs=2e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=40), max_size=12))
def test_groups_hold_every_prompt_once_with_a_common_prefix(prompts):
    groups = shared_prefixes(prompts)
    assert sorted(i for _, indices in groups for i in indices) == list(range(len(prompts)))
    for n, indices in groups:
        assert len({tuple(prompts[i][:n]) for i in indices}) == 1 or n == 0
        assert n == 0 or all(n < len(prompts[i]) for i in indices)


def test_bfloat16_is_close():
    model = lively(CONFIGS["llama"])
    exact = dict(score(Decoder(model, measure=False), PROMPTS))
    rounded = dict(score(Decoder(model, form="bfloat16", measure=False), PROMPTS))
    for index in exact:
        for a, b in zip(exact[index], rounded[index], strict=True):
            assert a.nats == pytest.approx(b.nats, rel=0.1, abs=0.3)


def test_what_does_not_fit_is_refused():
    decoder = Decoder(lively(CONFIGS["ours"]), measure=False)
    with pytest.raises(UserError, match="Prompt 1 has 49 tokens with its longest continuation"):
        list(score(decoder, [PROMPTS[1], Prompt(ids=text(48), continuations=[[1, 2], [3]])]))
    assert len(list(score(decoder, [Prompt(ids=text(48), continuations=[[3]])]))) == 1
    with pytest.raises(UserError, match="has no tokens"):
        list(score(decoder, [Prompt(ids=[1], continuations=[[]])]))
    assert torch.is_inference_mode_enabled() is False
