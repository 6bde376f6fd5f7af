"""The cost of a reduced form, against a computation from the logits of the model."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small_runs import make_data, settings

import groundup
from groundup.base.errors import UserError
from groundup.cli.main import main
from groundup.evaluation.quantization import quantization_cost
from groundup.generation.decoder import Decoder
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.pretraining.pretrain import pretrain


def model(seed: int = 0) -> GPT:
    config = GPTConfig(vocab_size=40, context_length=32, d_model=32, n_layers=1, n_heads=2)
    made = GPT(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    made.n_used_ids = 38
    return made


def texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(38, (n,), generator=generator).tolist() for n in (5, 30, 12)]


def logprobs(made: GPT, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits = made(torch.tensor([ids[:-1]]))[0, :, :38]
    return F.log_softmax(logits, -1)


def test_the_cost_is_that_of_the_two_distributions() -> None:
    one, other = model(0), model(5)
    cost = quantization_cost(Decoder(one), Decoder(other), texts(), n_bytes=100)
    nats: tuple[list[float], list[float]] = ([], [])
    agreed, divergences = [], []
    for ids in texts():
        a, b = logprobs(one, ids), logprobs(other, ids)
        for found, probabilities in zip(nats, (a, b), strict=True):
            found.extend(-probabilities[i, t].item() for i, t in enumerate(ids[1:]))
        agreed += (a.argmax(-1) == b.argmax(-1)).tolist()
        divergences.append(F.kl_div(b, a, reduction="none", log_target=True).sum(-1))
    assert cost.n_targets == 44
    assert cost.exact_bits_per_byte == pytest.approx(sum(nats[0]) / math.log(2) / 100, rel=1e-5)
    assert cost.reduced_bits_per_byte == pytest.approx(sum(nats[1]) / math.log(2) / 100, rel=1e-5)
    assert cost.agreement_frac == pytest.approx(sum(agreed) / 44)
    assert cost.divergence_nats == pytest.approx(torch.cat(divergences).mean().item(), rel=1e-4)
    worst = max(range(3), key=lambda i: divergences[i].mean().item())
    assert cost.worst.index == worst
    assert cost.worst.divergence_nats == pytest.approx(divergences[worst].mean().item(), rel=1e-4)


def test_int8_costs_little_and_float32_nothing() -> None:
    same = quantization_cost(Decoder(model()), Decoder(model()), texts(), n_bytes=100)
    assert same.agreement_frac == 1.0
    assert same.divergence_nats == pytest.approx(0.0, abs=1e-6)
    assert same.exact_bits_per_byte == same.reduced_bits_per_byte
    assert same.form == "float32: float32"
    int8 = quantization_cost(
        Decoder(model()), Decoder(model(), form="int8", measure=False), texts(), n_bytes=100
    )
    assert abs(int8.reduced_bits_per_byte - int8.exact_bits_per_byte) < 0.02
    assert int8.form.startswith("int8: ")


@pytest.mark.parametrize("wrong", [[], [[1, 2], [3]]])
def test_texts_without_a_prediction_are_refused(wrong: list[list[int]]) -> None:
    decoder = Decoder(model())
    with pytest.raises(UserError, match="at least two tokens"):
        quantization_cost(decoder, decoder, wrong, n_bytes=1)


def test_evaluate_measures_a_reduced_form(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, run = make_data(tmp_path / "data"), tmp_path / "run"
    pretrain(settings(data))
    plain = groundup.evaluate(run=run)
    assert plain.reduced is None
    result = groundup.evaluate(run=run, quantize="int8")
    assert result.nats == plain.nats
    cost = result.reduced
    assert cost is not None
    assert cost.form.startswith("int8")
    assert cost.exact_bits_per_byte == pytest.approx(result.bits_per_byte, rel=0.2)
    assert cost.reduced_bits_per_byte != cost.exact_bits_per_byte
    assert cost.reduced_bits_per_byte == pytest.approx(cost.exact_bits_per_byte, rel=0.02)
    assert 0.8 < cost.agreement_frac <= 1.0
    assert result.worst_passage
    kept = json.loads((run / "evaluation" / "loss.json").read_text())
    assert kept["reduced"]["worst"]["divergence_nats"] == cost.worst.divergence_nats
    assert main(["evaluate", str(run), "--dtype", "bfloat16"]) == 0
    assert "The worst passage begins" in capsys.readouterr().out
