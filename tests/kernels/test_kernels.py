"""RMSNorm, actuator, modulated add and cache update: each kernel against its reference."""

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from kernels import actuator, cache_update, modulated_add, rms_norm
from tests.parity import (
    DEVICE,
    DTYPES,
    assert_as_exact_as_torch,
    draw,
    needs_gpu,
    needs_triton,
    outputs_and_gradients,
    with_fault,
)

OUTPUTS = (("2sigmoid", 1), ("softplus", 1), ("sigmoid", 1))  # the three signals
SHIFTED = (("shifted", 1), *OUTPUTS[1:])
SHAPES = [(64, 256), (3, 7, 100), (50, 77), (1, 1), (5, 1), (1, 333)]
EPS = 1e-5


def norm_with(backend: str, module: ModuleType = rms_norm):
    return lambda x, weight: module.rms_norm(x, weight, EPS, backend=backend)


def signals_with(backend, outputs=OUTPUTS, maximum=4.0, module=actuator):
    return lambda z: module.actuator(z, outputs, maximum, backend=backend)


def add_with(backend: str, module: ModuleType = modulated_add):
    return lambda x, y, s: module.modulated_add(x, y, s, backend=backend)


def strided(x: Tensor) -> Tensor:
    """The same numbers, every second element of a transposed tensor."""
    spread = torch.zeros(*reversed(x.shape), 2, dtype=x.dtype, device=x.device)
    view = spread[..., 0].permute(*reversed(range(x.ndim)))
    return view.copy_(x)


# References


def test_the_gradients_of_the_references_are_those_of_their_formulas() -> None:
    x, y, s = draw(3, 5).double(), draw(3, 5, seed=1).double(), draw(3, seed=2).double()
    for tensor in (x, y, s):
        tensor.requires_grad_()
    assert gradcheck(lambda x, w: rms_norm.rms_norm_reference(x, w, EPS), (x, y[0]))
    assert gradcheck(modulated_add.modulated_add_reference, (x, y, s))
    z = (3 * draw(4, 6)).double().requires_grad_()
    for outputs in (OUTPUTS, SHIFTED, (("softplus", 2), ("sigmoid", 1))):
        assert gradcheck(signals_with("reference", outputs, maximum=1.0), (z,))


@pytest.mark.parametrize("shape", SHAPES)
def test_torchs_own_norm_is_the_reference_to_the_last_bit(shape: tuple[int, ...]) -> None:
    x, weight = draw(*shape), draw(shape[-1], seed=1)
    own = outputs_and_gradients(norm_with("reference"), [x, weight])
    plain = outputs_and_gradients(lambda x, w: rms_norm.rms_norm_reference(x, w, EPS), [x, weight])
    if DEVICE.type == "cpu":
        assert all(torch.equal(a, b) for a, b in zip(own, plain, strict=True))


# Kernels


@needs_triton
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = [draw(*shape, dtype=dtype), draw(shape[-1], dtype=dtype, seed=1)]
    plain = lambda x, w: rms_norm.rms_norm_reference(x, w, EPS)  # noqa: E731
    assert_as_exact_as_torch(norm_with("triton"), plain, inputs)
    assert_as_exact_as_torch(norm_with("triton"), plain, [strided(each) for each in inputs])


@needs_triton
def test_norm_of_large_and_small_numbers_and_of_no_row() -> None:
    weight = draw(64, seed=1)
    for scale in (1e-6, 1e4):
        inputs = [scale * draw(5, 64), weight]
        assert_as_exact_as_torch(norm_with("triton"), norm_with("reference"), inputs)
    empty, gradient, of_weight = outputs_and_gradients(norm_with("triton"), [draw(0, 64), weight])
    assert (empty.numel(), gradient.numel(), of_weight.abs().max()) == (0, 0, 0)


@needs_triton
def test_the_gradient_of_the_norms_weight_is_summed_over_the_rounds_of_a_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rms_norm, "PROGRAMS", 2)
    inputs = [draw(70, 200), draw(200, seed=1)]  # 8 rows a block, 9 blocks, 2 programs
    assert_as_exact_as_torch(norm_with("triton"), norm_with("reference"), inputs)


@needs_triton
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [
    OUTPUTS, SHIFTED, OUTPUTS[:0:-1], OUTPUTS[1:2], (("shifted", 1),),
    (*SHIFTED, ("2sigmoid", 1)),  # a fourth, and a fifth
    (("softplus", 1), *SHIFTED, ("softplus", 1)),
    (("sigmoid", 1), ("softplus", 4), ("2sigmoid", 1)),  # one a head
    (("shifted", 33), ("softplus", 1)),  # a vector
])  # fmt: skip
def test_actuator(outputs: tuple[actuator.Output, ...], dtype: torch.dtype) -> None:
    columns = sum(width for _, width in outputs)
    for rows, layers in ((70, 6), (1, 1), (3, 5)):
        z = 8 * draw(2, rows, layers * columns, dtype=dtype)
        forms = signals_with("triton", outputs), signals_with("reference", outputs)
        assert_as_exact_as_torch(*forms, [z])
        assert_as_exact_as_torch(*forms, [strided(z)])
        for made, (_, width) in zip(forms[0](z), outputs, strict=True):
            assert made.shape == (2, rows, layers, width)
            assert made[:, :, 0].flatten(0, 1).is_contiguous()  # as a layer reads it


@needs_triton
def test_actuator_of_more_columns_than_a_block_and_of_no_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actuator, "BLOCK", 16)
    outputs = (("2sigmoid", 1), ("softplus", 11))  # 3 layers in 36 columns, 3 blocks across
    forms = signals_with("triton", outputs), signals_with("reference", outputs)
    assert_as_exact_as_torch(*forms, [8 * draw(5, 36)])
    one, many, gradient = outputs_and_gradients(forms[0], [draw(0, 36)])
    assert (one.shape, many.shape, gradient.shape) == ((0, 3, 1), (0, 3, 11), (0, 36))


@pytest.mark.parametrize("backend", ["reference", pytest.param("triton", marks=needs_triton)])
def test_actuator_refuses_what_it_does_not_know(backend: str) -> None:
    with pytest.raises(ValueError, match="unknown transformation 'tanh': there are 2sigmoid, sh"):
        signals_with(backend, (("sigmoid", 1), ("tanh", 1)))(draw(2, 6))
    with pytest.raises(ValueError, match="z has 7 columns, which is no multiple of 3"):
        signals_with(backend)(draw(2, 7))


@needs_triton
def test_actuator_at_the_ends_of_the_numbers() -> None:
    ends = torch.tensor([-torch.inf, -1e4, -100.0, -30.0, 0.0, 30.0, 100.0, 1e4, torch.inf, 3.97])
    z = ends.to(DEVICE)[:, None].expand(-1, 3)
    kernel, plain = signals_with("triton"), signals_with("reference")
    for mine, theirs in zip(kernel(z), plain(z), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-37)
    gradient = outputs_and_gradients(kernel, [z])[3]
    assert gradient.isfinite().all()
    assert (gradient[5:9, 1] == 0).all()  # clamped: beta is 4 whatever z is
    assert gradient[9, 1] != 0
    assert all(signal.isnan().all() for signal in kernel(torch.full_like(z, torch.nan)))


@needs_triton
def test_a_signal_nobody_uses_costs_no_gradient_of_the_others() -> None:
    z = draw(4, 9).requires_grad_()
    gain, precision, _ = signals_with("triton")(z)
    (mine,) = torch.autograd.grad(gain[:, 2].sum() + precision.sum(), z)
    gain, precision, _ = signals_with("reference")(z)
    (theirs,) = torch.autograd.grad(gain[:, 2].sum() + precision.sum(), z)
    torch.testing.assert_close(mine, theirs)
    assert (mine[:, [2, 5, 8]] == 0).all()


@needs_triton
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_modulated_add(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, y = draw(*shape, dtype=dtype), draw(*shape, dtype=dtype, seed=1)
    s = draw(*shape[:-1], 3, dtype=dtype, seed=2)[..., 1]  # a layer's slice
    forms = add_with("triton"), add_with("reference")
    assert_as_exact_as_torch(*forms, [x, y, s])
    assert_as_exact_as_torch(*forms, [strided(x), strided(y), s])


@needs_triton
def test_modulated_add_of_a_branch_in_another_type() -> None:
    inputs = [draw(9, 100), draw(9, 100, dtype=torch.bfloat16, seed=1), draw(9, seed=2)]
    assert_as_exact_as_torch(add_with("triton"), add_with("reference"), inputs)


@needs_triton
def test_every_element_has_a_gradient_and_none_flows_into_what_is_fixed() -> None:
    x, y, s = draw(9, 20), draw(9, 20, seed=1).requires_grad_(), draw(9, seed=2)
    out = add_with("triton")(x, y, s)
    out.sum().backward()
    assert (x.grad, s.grad) == (None, None)
    assert torch.equal(y.grad, s[:, None].expand(9, 20))


# The cache


def cache_case(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """keys, values [B, H, C, K], k, v [B, H, T, K], none contiguous."""
    B, H, C, T, K = 2, 3, 13, 4, 20
    keys = draw(B, C, H, K, dtype=dtype).transpose(1, 2)
    values = strided(draw(B, H, C, K, dtype=dtype, seed=1))
    k = draw(B, T, H, K, dtype=dtype, seed=2).transpose(1, 2)
    v = draw(B, H, T, 2 * K, dtype=dtype, seed=3)[..., ::2]
    k[0, 0, 0, :2] = torch.tensor([torch.nan, -0.0])  # bits, not numbers
    return [keys, values, k, v]


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32)


def copied_by_hand(tensors: list[Tensor], positions: Tensor) -> tuple[Tensor, Tensor]:
    keys, values, k, v = (each.clone() for each in tensors)
    for b, row in enumerate(positions.expand(len(k), -1).tolist()):
        for t, position in enumerate(row):
            keys[b, :, position] = k[b, :, t]
            values[b, :, position] = v[b, :, t]
    return keys, values


@pytest.mark.parametrize("backend", ["reference", pytest.param("triton", marks=needs_triton)])
@pytest.mark.parametrize("integer", [torch.int32, torch.int64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cache_update_is_exact_to_the_bit(
    backend: str, integer: torch.dtype, dtype: torch.dtype
) -> None:
    for positions in ([12, 0, 3, 4], [[12, 0, 3, 4], [1, 2, 11, 5]], [5, 6, 7, 8], [8, 7, 6, 5]):
        tensors = cache_case(dtype)
        place = torch.tensor(positions, dtype=integer, device=DEVICE)
        keys, values = copied_by_hand(tensors, place)
        assert cache_update.cache_update(*tensors, place, backend=backend) is None
        assert torch.equal(bits(tensors[0]), bits(keys))
        assert torch.equal(bits(tensors[1]), bits(values))


@pytest.mark.parametrize("backend", ["reference", pytest.param("triton", marks=needs_triton)])
@pytest.mark.parametrize("outside", [13, -1, 2**31])
@pytest.mark.skipif(DEVICE.type != "cpu", reason="a device-side assertion ends the process")
def test_a_position_outside_the_cache_is_an_error_and_writes_nothing(
    backend: str, outside: int
) -> None:
    tensors = cache_case()
    before = [each.clone() for each in tensors]
    positions = torch.tensor([0, 1, outside, 2])
    with pytest.raises(IndexError, match=f"position {outside} is outside the cache: 0 to 12"):
        cache_update.cache_update(*tensors, positions, backend=backend)
    if backend == "triton":  # nor does the kernel, if nobody asked before
        cache_update._launch(*tensors, positions)
        tensors[0][:, :, [0, 1, 2]] = before[0][:, :, [0, 1, 2]]
        tensors[1][:, :, [0, 1, 2]] = before[1][:, :, [0, 1, 2]]
    assert torch.equal(bits(tensors[0]), bits(before[0]))
    assert torch.equal(bits(tensors[1]), bits(before[1]))


def test_cache_update_refuses_what_does_not_fit() -> None:
    keys, values, k, v = cache_case()
    place = torch.arange(4, device=DEVICE)
    update = cache_update.cache_update
    with pytest.raises(ValueError, match=r"expected \[B, H, C, K\] twice"):
        update(keys, values, k[:, :2], v[:, :2], place, backend="reference")
    with pytest.raises(ValueError, match=r"k and v are torch.float64"):
        update(keys, values, k.double(), v.double(), place, backend="reference")
    with pytest.raises(ValueError, match=r"positions torch.float32 \(4,\): expected int32 or"):
        update(keys, values, k, v, place.float(), backend="reference")
    with pytest.raises(ValueError, match=r"positions torch.int64 \(3,\): expected .* \(4,\) or"):
        update(keys, values, k, v, place[:3], backend="reference")
    update(keys, values, k[:, :, :0], v[:, :, :0], place[:0], backend="reference")


@pytest.mark.parametrize("triton", [False, pytest.param(True, marks=needs_triton)])
def test_the_cache_operator_tells_the_compiler_the_truth(triton: bool) -> None:
    positions = torch.tensor([12, 0, 3, 4], device=DEVICE)
    torch.library.opcheck(cache_update._cache_update, (*cache_case(), positions, triton))


@pytest.mark.parametrize("backend", ["reference", pytest.param("triton", marks=needs_triton)])
def test_a_cache_update_inside_a_compiled_function_is_seen_outside(backend: str) -> None:
    tensors, place = cache_case(), torch.tensor([12, 0, 3, 4], device=DEVICE)
    keys, values = copied_by_hand(tensors, place)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def update(*arguments: Tensor) -> Tensor:
        cache_update.cache_update(*arguments, backend=backend)
        return arguments[0].clone()

    assert torch.equal(bits(update(*tensors, place)), bits(keys))
    assert torch.equal(bits(tensors[1]), bits(values))


# Faults that these tests have to notice, each planted in a copy of the kernel

NORM_FAULTS = [
    ("1) / D + eps)\n    tl.store", "1) / BLOCK_D + eps)\n    tl.store"),
    ("1) / D + eps)\n        n =", "1) / D + 2 * eps)\n        n ="),
    ("dweight += n * dy", "dweight += x * dy"),
    ("dweight += n * dy", "dweight = n * dy"),
    ("wdy - n * (", "wdy - x * ("),
    ("tl.store(own, tl.sum(dweight, 0)", "tl.store(own, tl.max(dweight, 0)"),
    ("x, weight = x.contiguous(), weight.contiguous()", "pass"),
]  # fmt: skip


@needs_triton
@pytest.mark.parametrize("fault", NORM_FAULTS)
def test_a_fault_in_the_norm_is_noticed(
    fault: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = with_fault(rms_norm, *fault, tmp_path)
    monkeypatch.setattr(faulty, "PROGRAMS", 2)
    inputs = [strided(0.01 * draw(70, 200)), draw(200, seed=1)]
    assert_as_exact_as_torch(norm_with("triton"), norm_with("reference"), inputs)
    with pytest.raises(AssertionError, match="result"):
        assert_as_exact_as_torch(norm_with("triton", faulty), norm_with("reference"), inputs)


ACTUATOR_FAULTS = [
    ("tl.where(kind == 0, 2 * sigmoid,", "tl.where(kind == 0, sigmoid,"),
    ("sigmoid + 0.5, sigmoid))", "sigmoid, sigmoid))"),
    ("> maximum, maximum, softplus", "> maximum, softplus, softplus"),
    ("tl.where(softplus + 0.01 > maximum, 0.0, sigmoid)", "sigmoid"),  # straight through
    ("tl.maximum(z, 0.0) + log1p", "tl.log(1 + tl.exp(z))"),  # overflows
    ("tl.where(rest == 0, e, tl.log(u) * (e / tl.where(rest == 0, 1.0, rest)))", "tl.log(u)"),
    ("2.0, 1.0) * sigmoid * opposite", "2.0, 1.0) * sigmoid"),
    ("layer, column = offs_c // C, columns_ptr + offs_c % C",
     "layer, column = offs_c % L, columns_ptr + offs_c // L"),
    ("kind = tl.load(columns_ptr + offs_c % C)", "kind = tl.load(columns_ptr + offs_c // L)"),
    ("tl.load(column + 2 * C), tl.load(column + 3 * C)", "tl.load(column + 2 * C), 0"),
    ("layer * width", "layer"),
    ("wide_n * width[None, :]", "wide_n"),
    ("        start += width", "        start += 1"),
    ("torch.cat(d, -1)", "torch.cat(d[::-1], -1)"),
]  # fmt: skip


@needs_triton
@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("fault", ACTUATOR_FAULTS)
def test_a_fault_in_the_actuator_is_noticed(fault: tuple[str, str], tmp_path: Path) -> None:
    faulty = with_fault(actuator, *fault, tmp_path)
    wide, low = 40 * draw(3, 15), draw(3, 15) - 8  # low: where log(1 + e) loses its digits
    noticed = 0
    for outputs in (OUTPUTS, SHIFTED, (("softplus", 3), ("sigmoid", 2))):
        for z in (wide, low):
            plain = signals_with("reference", outputs)
            assert_as_exact_as_torch(signals_with("triton", outputs), plain, [z])
            try:
                assert_as_exact_as_torch(signals_with("triton", outputs, module=faulty), plain, [z])
            except AssertionError:
                noticed += 1
    assert noticed


ADD_FAULTS = [
    ("(x + s[:, None] * y)", "(x + y)"),
    ("(s[:, None] * dout)", "dout"),
    ("tl.sum(dout * y, 1)", "tl.sum(dout, 1)"),
    ("dout, y, flat, dy, ds, n_rows, D, flat.stride(0)", "dout, y, flat, dy, ds, n_rows, D, 1"),
    ("x, y, flat, out, n_rows, D, flat.stride(0)", "x, y, flat, out, n_rows, D, 1"),
    ("x, y, flat = x.contiguous(), y.contiguous()", "x, y, flat = x, y"),
]


@needs_triton
@pytest.mark.parametrize("fault", ADD_FAULTS)
def test_a_fault_in_the_modulated_add_is_noticed(fault: tuple[str, str], tmp_path: Path) -> None:
    faulty = with_fault(modulated_add, *fault, tmp_path)
    inputs = [strided(draw(9, 100)), draw(9, 100, seed=1), draw(9, 3, seed=2)[:, 1]]
    assert_as_exact_as_torch(add_with("triton"), add_with("reference"), inputs)
    with pytest.raises(AssertionError, match="result"):
        assert_as_exact_as_torch(add_with("triton", faulty), add_with("reference"), inputs)


CACHE_FAULTS = [
    ("p[:, None] * stride_keys_t", "wide_t[:, None] * stride_keys_t"),
    ("h * stride_values_h", "0 * stride_values_h"),  # one head only
    ("b * stride_p_b +", "0 * stride_p_b +"),
    ("mask = (inside & (offs_t < T))", "mask = (inside & (offs_t < 1))"),
    ("offs_k[None, :] * stride_v_k", "offs_k[None, :]"),
    ("inside = (p >= 0) & (p < C)", "inside = (p > 0) & (p < C)"),
]


@needs_triton
@pytest.mark.parametrize("fault", CACHE_FAULTS)
def test_a_fault_in_the_cache_update_is_noticed(fault: tuple[str, str], tmp_path: Path) -> None:
    faulty = with_fault(cache_update, *fault, tmp_path)
    tensors = cache_case()
    positions = torch.tensor([[12, 0, 3, 4], [1, 2, 11, 5]], device=DEVICE)
    keys, values = copied_by_hand(tensors, positions)
    faulty.cache_update(*tensors, positions, backend="triton")
    same = torch.equal(bits(tensors[0]), bits(keys)) and torch.equal(bits(tensors[1]), bits(values))
    assert not same


# On a GPU only


@needs_gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_full_size_and_twice_the_same(dtype: torch.dtype) -> None:
    x, y = draw(8, 4096, 256, dtype=dtype), draw(8, 4096, 256, dtype=dtype, seed=1)
    weight, s = draw(256, dtype=dtype, seed=2), draw(8, 4096, 6, dtype=dtype, seed=3)[..., 4]
    z = 8 * draw(8, 4096, 18, dtype=dtype, seed=4)
    for kernel, plain, inputs in (
        (norm_with("triton"), norm_with("reference"), [x, weight]),
        (add_with("triton"), add_with("reference"), [x, y, s]),
        (signals_with("triton"), signals_with("reference"), [z]),
    ):
        assert_as_exact_as_torch(kernel, plain, inputs)
        first, second = (outputs_and_gradients(kernel, inputs) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
