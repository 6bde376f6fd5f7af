"""Each kernel computes the product with the weight that it was made from."""

from dataclasses import replace

import pytest
import torch
from decoder_models import CONFIGS, lively, text, whole
from torch import Tensor, nn

from groundup.generation import kernels
from groundup.generation.decoder import Decoder
from groundup.generation.kernels import Kernel, Kernels, Matrix, choose, fastest, make_product
from groundup.model.quantized import QuantizedWeight

TOLERANCE: dict[Kernel, float] = {
    # Largest relative error of a product of 64 columns: the rounding of weights and activations.
    "float32": 1e-6,
    "packed float32": 1e-6,
    "bfloat16": 2e-2,
    "packed bfloat16": 2e-2,
    "int8": 3e-2,
    "int4": 2e-2,  # of the blocks, not of the numbers that they were made from
}


def blocks(rows: int, columns: int, n_bits: int) -> QuantizedWeight:
    generator = torch.Generator().manual_seed(1)
    low, high = (0, 16) if n_bits == 4 else (-127, 128)
    quants = torch.randint(low, high, (rows, columns), generator=generator)
    scales = torch.rand(rows, columns // 32, generator=generator) + 0.1
    minima = -7.3 * scales if n_bits == 4 else torch.zeros_like(scales)
    dtype = torch.uint8 if n_bits == 4 else torch.int8
    return QuantizedWeight(quants.to(dtype), scales, minima, n_bits=n_bits)


def error(found: Tensor, expected: Tensor) -> float:
    return ((found.float() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("kernel", TOLERANCE)
@pytest.mark.parametrize("n_rows", [1, 3, 16, 40])
@pytest.mark.parametrize("n_outputs", [48, 51])
@pytest.mark.parametrize("with_bias", [False, True])
def test_products(kernel: Kernel, n_rows: int, n_outputs: int, with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(n_rows, 64, generator=generator)
    bias = torch.randn(n_outputs, generator=generator) if with_bias else None
    weights: list[Tensor | QuantizedWeight] = [torch.randn(n_outputs, 64, generator=generator)]
    if kernel == "int4":
        weights += [blocks(n_outputs, 64, 4), blocks(n_outputs, 64, 8)]
    for weight in weights:
        matrix = Matrix(weight, bias)
        with torch.inference_mode():
            found = make_product(kernel, matrix)(x.to(kernels.dtype_of(kernel)))
        expected = torch.nn.functional.linear(x, matrix.numbers(), bias)
        assert found.shape == (n_rows, n_outputs)
        assert error(found, expected) < TOLERANCE[kernel]


def test_an_exponent_of_a_scale_that_bfloat16_rounds_is_not_an_error_of_int8() -> None:
    weight = torch.linspace(-1.003, 1.003, 64).expand(48, 64)
    product = make_product("int8", Matrix(weight))
    x = torch.eye(64, dtype=torch.bfloat16)
    with torch.inference_mode():
        found = product(x).float().T
    assert (found - weight).abs().max() < 1.003 / 127  # half a step, and the rounding of the result


def test_choice_of_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices, cpu = [Matrix(torch.randn(96, 64))] * 3, torch.device("cpu")
    assert str(choose("float32", matrices, cpu)) == "float32"  # small: nothing to gain
    monkeypatch.setattr(kernels, "_SMALL", 0)
    monkeypatch.setattr(kernels, "choose_dtype", lambda name, device: torch.bfloat16)
    assert choose("int8", matrices, cpu, measure=False) == Kernels("int8", "packed bfloat16", 8)
    assert str(choose("file", matrices, cpu, measure=False)) == (
        "int4 up to 8 rows, packed bfloat16 above"
    )
    assert str(choose("bfloat16", matrices, cpu, measure=False)) == "packed bfloat16"
    monkeypatch.setattr(kernels, "fastest", lambda names, matrices, n_rows: names[n_rows > 2])
    assert choose("file", matrices, cpu) == Kernels("int4", "packed bfloat16", 2)
    monkeypatch.setattr(kernels, "choose_dtype", lambda name, device: torch.float32)
    for form in ("bfloat16", "int8", "file"):  # a processor without bfloat16 units
        assert choose(form, matrices, cpu).many == "packed float32"
        assert not choose(form, matrices, cpu).n_few


def test_the_fastest_kernel_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now, costs = [0.0], {"float32": 1.0, "int8": 0.95, "packed float32": 0.5}
    n_calls, disturbed = [0], set[int]()

    def product(kernel: Kernel, matrix: Matrix) -> object:
        def multiply(x: Tensor) -> None:
            n_calls[0] += 1
            now[0] += costs[kernel] * (10 if n_calls[0] in disturbed else 1)

        return multiply

    monkeypatch.setattr(kernels, "make_product", product)
    monkeypatch.setattr(kernels.time, "perf_counter", lambda: now[0])
    matrices = [Matrix(torch.randn(32, 32))]
    assert fastest(("float32", "packed float32"), matrices, 1) == "packed float32"
    assert fastest(("float32", "int8"), matrices, 1) == "float32"  # not clearly faster
    n_calls[0] = 0
    disturbed.add(4)  # another program runs in a round of the faster one
    assert fastest(("float32", "packed float32"), matrices, 1) == "float32"


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8", "file"])
@pytest.mark.parametrize("name", ["ours", "gpt2", "window"])
@pytest.mark.parametrize("width", [32, 24])  # 24 does not suit the operators of int8 and int4
def test_forms_compute_about_the_same_logits(
    form: kernels.Form, name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_SMALL", 0)
    monkeypatch.setattr(kernels, "choose_dtype", lambda name, device: torch.bfloat16)
    limit = {"float32": 1e-5, "bfloat16": 0.05, "int8": 0.05, "file": 0.05}[form]
    model, ids = lively(replace(CONFIGS[name], d_model=width)), text(40)
    quantized = {}
    for name, parameter in model.named_parameters():
        rows, columns = len(parameter), parameter[0].numel()
        if form == "file" and "norm" not in name and parameter.ndim == 2 and columns % 32 == 0:
            weight = blocks(rows, columns, 8 if "embedding" in name else 4)
            weight = replace(weight, scales=weight.scales / 100, minima=weight.minima / 100)
            quantized[name] = weight
            parameter.data = weight.dequantize()
    if model.config.tie_embeddings:
        model.head.weight = model.token_embedding.weight
    if form == "file" and not quantized:
        quantized["none of the parameters"] = blocks(1, 32, 4)
    decoder = Decoder(model, form=form, blocks=quantized, measure=False)
    row = decoder.new_row()
    found = [decoder.read(ids[:30], row, n_last=30)]  # many rows, then one
    found += [decoder.step([token], [row]) for token in ids[30:]]
    assert error(torch.cat(found), whole(model, ids)) < limit


def test_a_form_that_is_not_used_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = lively(replace(CONFIGS["ours"], tie_embeddings=False))
    monkeypatch.setattr(kernels, "choose_dtype", lambda name, device: torch.bfloat16)
    Decoder(model, form="int8", measure=False)
    assert not caplog.records
    monkeypatch.setattr(kernels, "choose_dtype", lambda name, device: torch.float32)
    decoder = Decoder(model, form="int8")
    assert "rounded to int8, and multiplied in float32, not in the form int8" in caplog.text
    row = decoder.new_row()
    found = decoder.read([1, 2, 3], row, n_last=3)
    assert error(found, whole(model, [1, 2, 3])) > 1e-3
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = Matrix(module.weight.data, is_int8=True).numbers()
    torch.testing.assert_close(found, whole(model, [1, 2, 3]))


def test_few_and_many_rows_have_the_same_int8_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(48, 64) * torch.logspace(-3, 2, 48)[:, None]
    once = Matrix(weight, is_int8=True).numbers()
    assert torch.equal(Matrix(once, is_int8=True).numbers(), once)
    half = Matrix(weight, is_int8=True)
    unit = torch.eye(64, dtype=torch.bfloat16)
    few, many = (make_product(kernel, half)(unit).float() for kernel in ("int8", "bfloat16"))
    torch.testing.assert_close(few, many, rtol=2**-7, atol=0)
    torch.testing.assert_close(many, once.T, rtol=2**-7, atol=0)
