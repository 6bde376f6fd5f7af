"""LoRA, rsLoRA and DoRA: the outputs, the gradients and what is trained."""

from typing import Any

import pytest
import torch
from decoder_models import CONFIGS, lively, whole
from peers import peer
from torch import nn

from groundup.base.errors import UserError
from groundup.evaluation.decoders import decoder_of
from groundup.generation.decoder import Decoder
from groundup.model.gpt import GPT
from groundup.model.lora import (
    LoRALinear,
    Part,
    add_lora,
    has_lora,
    lora_layers,
    lora_parameters,
    merge_lora,
    without_lora,
)
from groundup.model.lora_config import LoRAConfig
from groundup.train.precision import MixedPrecision

IDS = torch.randint(60, (2, 20), generator=torch.Generator().manual_seed(3))
VARIANTS = ("lora", "rslora", "dora")


def with_lora(family: str, **settings: Any) -> GPT:
    model = lively(CONFIGS[family])
    add_lora(model, LoRAConfig(**{"rank": 3, "alpha": 3.0, **settings}), seed=1)
    return model


def randomize(model: nn.Module, scale: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(5)
    for name, parameter in lora_parameters(model).items():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += scale * (noise if "lora" in name else parameter * noise)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", CONFIGS)
def test_the_model_starts_unchanged_and_is_merged_and_switched_off(
    family: str, variant: Any
) -> None:
    with torch.no_grad():
        before = lively(CONFIGS[family])(IDS)
        model = with_lora(family, variant=variant)
        torch.testing.assert_close(model(IDS), before, atol=1e-5, rtol=0)
        randomize(model)
        changed = model(IDS)
        assert (changed - before).abs().max() > 0.1
        merged = merge_lora(model)
        assert not has_lora(merged)
        assert {n for n, _ in merged.named_parameters()} == {
            n for n, _ in lively(CONFIGS[family]).named_parameters()
        }
        torch.testing.assert_close(merged(IDS), changed, atol=1e-5, rtol=0)
        with without_lora(model):
            assert torch.equal(model(IDS), before)
            assert torch.equal(merge_lora(model)(IDS), before)
        assert torch.equal(model(IDS), changed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_the_adapters_are_trained(variant: Any) -> None:
    model = with_lora("qwen3", variant=variant)
    randomize(model)
    model.loss(IDS, IDS.roll(-1, 1)).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == set(lora_parameters(model))
    assert all(
        p.grad.abs().max() > 0 for p in lora_parameters(model).values() if p.grad is not None
    )
    assert trained == {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("use_dora", [False, True])
def test_outputs_and_gradients_are_those_of_peft(use_dora: bool) -> None:
    peft = peer("peft")
    base = nn.Linear(6, 10)
    theirs = peft.get_peft_model(
        nn.Sequential(base),
        peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0"], use_dora=use_dora),
    )
    config = LoRAConfig(rank=2, alpha=3.0, variant="dora" if use_dora else "lora")
    ours = LoRALinear(base, [Part("all", 0, 10)], config)
    randomize(ours)
    named = dict(theirs.named_parameters())
    pairs = {"lora_A.default.weight": "lora_a", "lora_B.default.weight": "lora_b"}
    if use_dora:
        pairs["lora_magnitude_vector.default.weight"] = "magnitude"
    own = dict(ours.named_parameters())
    with torch.no_grad():
        for name, parameter in named.items():
            for end, our in pairs.items():
                if name.endswith(end):
                    parameter.copy_(own[our])
    x = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=0)
    (ours(x) * weights).sum().backward()
    (theirs(x) * weights).sum().backward()
    for end, our in pairs.items():
        their = next(p for name, p in named.items() if name.endswith(end))
        torch.testing.assert_close(own[our].grad, their.grad, atol=1e-5, rtol=1e-5)


def test_each_part_of_a_fused_weight_has_its_own_adapter() -> None:
    model = with_lora("llama", targets=("query", "value", "up"))
    layers = lora_layers(model)
    assert sorted(layers) == [
        f"blocks.{i}.{name}" for i in (0, 1) for name in ("attention.qkv", "mlp.up")
    ]
    qkv, up = layers["blocks.0.attention.qkv"], layers["blocks.0.mlp.up"]
    assert [tuple(part) for part in qkv.parts] == [("query", 0, 24), ("value", 36, 48)]
    assert [tuple(part) for part in up.parts] == [("up", 40, 80)]
    assert qkv.lora_a.shape == (6, 24)
    assert qkv.lora_b.shape == (36, 3)
    randomize(model)
    update = qkv.merged_weight() - qkv.weight
    a, b = next((a, b) for part, a, b, _ in qkv.adapters() if part.target == "value")
    torch.testing.assert_close(update[36:], qkv.config.scale * b @ a)
    assert torch.equal(update[24:36], torch.zeros(12, 24))


def test_the_seed_decides_the_adapters_and_the_global_random_state_is_untouched() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one, two = with_lora("ours"), with_lora("ours")
    assert torch.equal(torch.get_rng_state(), state)
    for (name, a), b in zip(
        lora_parameters(one).items(), lora_parameters(two).values(), strict=True
    ):
        assert torch.equal(a, b), name
    other = lively(CONFIGS["ours"])
    add_lora(other, LoRAConfig(rank=3), seed=2)
    name = "blocks.0.attention.qkv.lora_a"
    assert not torch.equal(lora_parameters(one)[name], lora_parameters(other)[name])
    assert lora_parameters(one)[name].abs().max() <= 24**-0.5


def test_the_scale_of_each_variant() -> None:
    assert LoRAConfig(rank=4, alpha=8.0).scale == 2.0
    assert LoRAConfig(rank=4, alpha=8.0, variant="dora").scale == 2.0
    assert LoRAConfig(rank=4, alpha=8.0, variant="rslora").scale == 4.0


def test_dropout_is_on_the_input_of_the_adapters_and_only_in_training() -> None:
    model = with_lora("llama", dropout=0.5)
    randomize(model)
    assert torch.equal(model(IDS), model(IDS))  # the model was in evaluation mode
    model.train()
    torch.manual_seed(1)
    dropped = model(IDS)
    assert not torch.allclose(dropped, model.eval()(IDS))
    model.train()
    with without_lora(model):
        assert torch.equal(model(IDS), model(IDS))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_base_in_bfloat16_keeps_adapters_in_float32(variant: Any) -> None:
    model = lively(CONFIGS["llama"]).bfloat16()
    base = {name: p.data_ptr() for name, p in model.named_parameters()}
    add_lora(model, LoRAConfig(rank=3, variant=variant), seed=1)
    randomize(model)
    assert all(p.dtype == torch.float32 for p in lora_parameters(model).values())
    assert all(p.data_ptr() == base[n] for n, p in model.named_parameters() if n in base)
    loss = MixedPrecision(model, torch.bfloat16)(IDS, IDS.roll(-1, 1))
    loss.backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32
        for p in lora_parameters(model).values()
    )
    exact = lively(CONFIGS["llama"])
    add_lora(exact, LoRAConfig(rank=3, variant=variant), seed=1)
    randomize(exact)
    assert loss.item() == pytest.approx(exact.loss(IDS, IDS.roll(-1, 1)).item(), abs=0.05)
    merged = merge_lora(model)
    assert merged.token_embedding.weight.dtype == torch.bfloat16
    weight = lora_layers(model)["blocks.0.mlp.down"].merged_weight()
    rounded = dict(merged.named_parameters())["blocks.0.mlp.down.weight"]
    assert torch.equal(rounded, weight.bfloat16())


@pytest.mark.parametrize("variant", VARIANTS)
def test_activation_checkpointing_gives_the_same_gradients(variant: Any) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = with_lora("gpt2", variant=variant)
        randomize(model)
        model.activation_checkpointing = checkpointing
        MixedPrecision(model, torch.bfloat16)(IDS, IDS.roll(-1, 1)).backward()
        gradients.append([p.grad for p in lora_parameters(model).values()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("family", ["ours", "gpt2"])
def test_generation_uses_the_adapters(family: str, tmp_path: Any) -> None:
    model = with_lora(family, variant="dora")
    randomize(model)
    ids = IDS[0].tolist()
    decoder = Decoder(model)
    found = decoder.read(ids, decoder.new_row())
    torch.testing.assert_close(found[0], whole(model, ids)[-1], atol=1e-4, rtol=0)
    used = decoder_of(model, tmp_path)
    with without_lora(model):
        assert decoder_of(model, tmp_path) is not used
        base = Decoder(model).read(ids, Decoder(model).new_row())
    assert (base - found).abs().max() > 0.1


def test_a_second_adapter_and_absent_targets_are_refused() -> None:
    model = with_lora("ours")
    with pytest.raises(UserError, match="has LoRA adapters already"):
        add_lora(model, LoRAConfig(), seed=0)
    plain = lively(CONFIGS["gpt2"])
    with pytest.raises(UserError, match="none of the targets gate"):
        add_lora(plain, LoRAConfig(targets=("gate",)), seed=0)
    assert all(p.requires_grad for p in plain.parameters())
    with pytest.raises(UserError, match="targets"):
        LoRAConfig(targets=("head",))  # type: ignore[arg-type]
