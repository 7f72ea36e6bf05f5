"""The linear cross-entropy: each form against the plain one in float64, and what it may cost."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils.checkpoint import checkpoint

from kernels import linear_cross_entropy as xent
from ncn.benchmark.kernels import peak_bytes
from tests.parity import (
    DEVICE,
    DTYPES,
    assert_as_exact_as_torch,
    draw,
    needs_gpu,
    needs_triton,
    outputs_alone,
    outputs_and_gradients,
    with_fault,
)

FORMS = ["chunked", pytest.param("triton", marks=needs_triton)]
# Rows, vocabulary, width; the chunks of `small_chunks` and the tiles of the kernels divide none.
SHAPES = [(37, 101, 7), (64, 256, 64), (50, 777, 100), (3, 5, 300), (1, 1, 1), (5, 1, 3)]
REDUCTIONS = ("mean", "none")

Head = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xent, "CHUNK_LOGITS", 400)
    monkeypatch.setattr(xent, "BLOCK_LOGITS", 150)


def some_targets(N: int, V: int) -> Tensor:
    """One for each row."""
    return torch.randint(V, (N,), generator=torch.Generator().manual_seed(7)).to(DEVICE)


def head(backend: str, targets: Tensor, reduction: str = "mean", module: ModuleType = xent) -> Head:
    return lambda h, weight: module.linear_cross_entropy(
        h, weight, targets, backend=backend, reduction=reduction
    )


def check(
    backend: str,
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    reduction: str = "mean",
    module: ModuleType = xent,
) -> None:
    mine, plain = head(backend, targets, reduction, module), head("reference", targets, reduction)
    if backend == "chunked" and reduction == "none":  # which has no gradients
        assert_as_exact_as_torch(mine, plain, (h, weight), gradients=False)
    else:
        assert_as_exact_as_torch(mine, plain, (h, weight))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("backend", "reduction"), [("reference", "mean"), ("reference", "none"), ("chunked", "mean")]
)
def test_gradients_are_those_of_the_formula(backend: str, reduction: str) -> None:
    h, weight = draw(7, 3).double().requires_grad_(), draw(67, 3).double().requires_grad_()
    assert gradcheck(head(backend, some_targets(7, 67), reduction), (h, weight))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", FORMS)
def test_it_is_as_exact_as_plain_torch(
    backend: str, dtype: torch.dtype, shape: tuple[int, int, int]
) -> None:
    N, V, D = shape
    h, weight = draw(N, D, dtype=dtype), draw(V, D, dtype=dtype, seed=1)
    for reduction in REDUCTIONS:
        check(backend, h, weight, some_targets(N, V), reduction)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("backend", FORMS)
def test_any_strides_will_do(backend: str) -> None:
    h, weight = draw(16, 40)[:, ::2].T, draw(16, 101).T
    targets = some_targets(40, 101)[::2]
    check(backend, h, weight, targets)
    check(backend, h, weight, targets, "none")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", ["growing", "falling", "extreme"])
@pytest.mark.parametrize("backend", FORMS)
def test_logits_may_grow_fall_and_be_extreme(backend: str, kind: str) -> None:
    N, V, D = 20, 333, 16
    h, weight = draw(N, D), draw(V, D, seed=1)
    if kind == "extreme":
        h = 1e4 * h / (h @ weight.T).abs().amax(1, keepdim=True)  # largest |logit| of a row: 1e4
    else:
        h[:, 0] = 1
        weight[:, 0] = torch.linspace(-300, 300, V) * (1 if kind == "growing" else -1)
    targets = some_targets(N, V)
    for reduction in REDUCTIONS:
        check(backend, h, weight, targets, reduction)


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_no_rows_are_as_in_torch(backend: str, reduction: str) -> None:
    h, weight, targets = draw(0, 8), draw(31, 8, seed=1), some_targets(0, 31)
    with torch.no_grad():
        mine, plain = (head(form, targets, reduction)(h, weight) for form in (backend, "reference"))
    torch.testing.assert_close(mine, plain, equal_nan=True)


def test_the_chunked_losses_of_rows_refuse_a_gradient() -> None:
    h, weight, targets = draw(4, 8).requires_grad_(), draw(31, 8), some_targets(4, 31)
    losses = head("chunked", targets, "none")(h, weight)
    with pytest.raises(RuntimeError, match="does not require grad"):
        losses.sum().backward()


def test_the_size_of_the_chunks_changes_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, targets = (draw(53, 24), draw(211, 24, seed=1)), some_targets(53, 211)
    whole = outputs_and_gradients(head("chunked", targets), inputs)
    for size in (1, 211, 1000, 211 * 52):
        monkeypatch.setattr(xent, "CHUNK_LOGITS", size)
        for got, expected in zip(
            outputs_and_gradients(head("chunked", targets), inputs), whole, strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("backend", FORMS)
def test_two_runs_are_equal_to_the_bit(backend: str) -> None:
    inputs, targets = (draw(70, 24), draw(211, 24, seed=1)), some_targets(70, 211)
    first, second = (outputs_and_gradients(head(backend, targets), inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("backend", FORMS)
def test_no_small_gradient_is_dropped(backend: str) -> None:
    """All tokens but one have p = 5.6e-9, a tenth of the least number that fp16 holds."""
    h = torch.ones(4, 16, dtype=torch.float16, device=DEVICE)
    weight = torch.zeros(64, 16, dtype=torch.float16, device=DEVICE)
    weight[0] = 19 / 16
    targets = torch.zeros(4, dtype=torch.int64, device=DEVICE)
    loss = head(backend, targets)(h, weight.requires_grad_())
    (dw,) = torch.autograd.grad(4 * loss * 2**16, weight)
    expected = 4 * 2**16 * torch.tensor(-19.0).exp()  # rows x scale x p h
    torch.testing.assert_close(dw[5].float().cpu(), expected.expand(16), rtol=1e-2, atol=0)


# Inside autograd, autocast, torch.compile and the model


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("backend", FORMS)
def test_the_gradient_scales_with_what_is_done_to_the_loss(backend: str) -> None:
    h, weight, targets = draw(9, 8), draw(101, 8, seed=1), some_targets(9, 101)
    weight.requires_grad_()
    loss = head(backend, targets)(h, weight)
    (once,) = torch.autograd.grad(loss, weight, retain_graph=True)
    (scaled,) = torch.autograd.grad(1024 * loss, weight, retain_graph=True)
    assert torch.equal(scaled, 1024 * once)
    loss.backward(retain_graph=True)
    loss.backward()  # accumulated, as over micro-batches
    torch.testing.assert_close(weight.grad, 2 * once)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("backend", FORMS)
def test_a_tied_weight_gets_both_gradients(backend: str) -> None:
    tokens, targets = some_targets(30, 97).clamp(min=0), some_targets(30, 97)

    def tied(form: str) -> Tensor:
        weight = draw(97, 8).requires_grad_()
        head(form, targets)(weight[tokens], weight).backward()
        assert weight.grad is not None
        return weight.grad

    torch.testing.assert_close(tied(backend), tied("reference"))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("units", [False, True])  # for bf16: whatever this CPU has
def test_autocast_rounds_the_inputs_and_units_for_it_the_products(
    backend: str, units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if DEVICE.type == "cpu":
        monkeypatch.setattr("kernels.linear_cross_entropy.multiplies", lambda *_: units)
    h, weight, targets = draw(30, 16), draw(97, 16, seed=1), some_targets(30, 97)
    rounded = [each.bfloat16().float() for each in (h, weight)]
    expected = outputs_and_gradients(head("reference", targets), rounded)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        found = outputs_and_gradients(head(backend, targets), (h, weight))
    for got, exact in zip(found, expected, strict=True):
        assert got.dtype == torch.float32
        if DEVICE.type == "cpu" and (not units or backend == "triton"):
            torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-6)
        else:  # the softmax is rounded to bf16 before it is multiplied
            torch.testing.assert_close(got, exact, rtol=2e-2, atol=2e-3)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("backend", FORMS)
def test_torch_compile_takes_it_whole(backend: str) -> None:
    inputs, targets = (draw(30, 16), draw(97, 16, seed=1)), some_targets(30, 97)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        eager = outputs_and_gradients(head(backend, targets), inputs)
        whole = torch.compile(head(backend, targets), fullgraph=True, backend="aot_eager")
        compiled = outputs_and_gradients(whole, inputs)
    for got, expected in zip(compiled, eager, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_recomputed_pass_has_the_same_gradients(backend: str, reentrant: bool) -> None:
    inputs, targets = (draw(30, 16), draw(97, 16, seed=1)), some_targets(30, 97)
    plain = head(backend, targets)
    expected = outputs_and_gradients(plain, inputs)
    leaves = [each.requires_grad_() for each in inputs]
    loss = checkpoint(plain, *leaves, use_reentrant=reentrant)
    loss.backward(torch.full_like(loss, draw(seed=9).item()))
    for leaf, gradient in zip(leaves, expected[1:], strict=True):
        assert torch.equal(leaf.grad, gradient)


@pytest.mark.usefixtures("small_chunks")
def test_the_operators_keep_their_promises() -> None:
    h, weight, targets = draw(9, 8), draw(101, 8, seed=1), some_targets(9, 101)
    leaves = (h.requires_grad_(), weight.requires_grad_(), targets)
    for dtype in (torch.float32, torch.bfloat16):
        torch.library.opcheck(xent._compiled_rows, (h.detach(), weight.detach(), targets, dtype))
        torch.library.opcheck(xent._compiled_total, (*leaves, dtype, True, True))


@needs_triton
def test_the_operators_of_the_triton_form_keep_their_promises() -> None:
    h, weight, targets = draw(9, 8), draw(70, 8, seed=1), some_targets(9, 70)
    leaves = (h.requires_grad_(), weight.requires_grad_(), targets)
    torch.library.opcheck(xent._flash, (*leaves, torch.float32, True))
    leaves = (h.detach(), *leaves[1:])  # the mean of W is for dh alone
    torch.library.opcheck(xent._flash, (*leaves, torch.float32, False))


@pytest.mark.parametrize("backend", FORMS)
def test_without_gradients_none_are_made(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    h, weight, targets = draw(9, 8), draw(31, 8, seed=1).requires_grad_(), some_targets(9, 31)

    def refused(*_: object) -> None:
        raise AssertionError("gradients were made")

    monkeypatch.setattr(xent, "_total_with_gradients", refused)
    monkeypatch.setattr(xent, "_flash_backward", refused)
    expected = head("reference", targets)(h, weight)
    for without in (torch.no_grad, torch.inference_mode):
        with without():
            torch.testing.assert_close(head(backend, targets)(h, weight), expected)


@pytest.mark.parametrize("backend", FORMS)
def test_only_the_gradient_that_is_needed_is_made(backend: str) -> None:
    h, weight, targets = draw(9, 8), draw(31, 8, seed=1), some_targets(9, 31)
    both = outputs_and_gradients(head(backend, targets), (h, weight))[1:]
    for chosen, gradient in zip((h, weight), both, strict=True):
        chosen.requires_grad_()
        loss = head(backend, targets)(h, weight)
        (alone,) = torch.autograd.grad(loss * draw(seed=9), chosen)
        chosen.requires_grad_(False)
        torch.testing.assert_close(alone, gradient)


# What does not fit, and what it costs


@pytest.mark.parametrize("backend", ["reference", *FORMS])
def test_what_does_not_fit_is_refused(backend: str) -> None:
    h, weight, targets = draw(4, 8), draw(31, 8), torch.zeros(4, dtype=torch.int64, device=DEVICE)
    with pytest.raises(ValueError, match=r"h \[4, 8\] and weight \[31, 7\] must be"):
        head(backend, targets)(h, weight[:, :7])
    with pytest.raises(ValueError, match=r"targets \[3\] torch.int64 must be \[N\]"):
        head(backend, targets[:3])(h, weight)
    with pytest.raises(ValueError, match=r"targets .* torch.int32 must be"):
        head(backend, targets.int())(h, weight)
    with pytest.raises(ValueError, match="reduction 'sum' must be none or mean"):
        head(backend, targets, "sum")(h, weight)
    with pytest.raises(ValueError, match=r"h and weight must be of one type, not .*32 and .*16"):
        head(backend, targets)(h, weight.bfloat16())


@needs_triton
def test_the_triton_form_refuses_float64_and_marks_a_target_beyond_the_vocabulary() -> None:
    h, weight, targets = draw(4, 8), draw(31, 8), torch.tensor([0, 31, 30, -1]).to(DEVICE)
    with pytest.raises(ValueError, match=r"triton multiplies fp32, fp16 and bf16, not .*float64"):
        head("triton", targets)(h.double(), weight.double())
    with torch.no_grad():
        losses = head("triton", targets, "none")(h, weight)
    assert losses.isnan().tolist() == [False, True, False, True]


def test_all_logits_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    N, V, D = 2048, 16384, 16
    inputs, targets = (draw(N, D), draw(V, D, seed=1)), some_targets(N, V)

    def peak(backend: str, reduction: str = "mean", run: Any = outputs_and_gradients) -> int:
        return peak_bytes(lambda: run(head(backend, targets, reduction), inputs), DEVICE)

    naive = peak("reference")
    assert naive > 2 * 4 * N * V  # or this measures nothing
    monkeypatch.setattr(xent, "CHUNK_LOGITS", N * V // 16)
    assert peak("chunked") < naive / 4
    assert peak("chunked", "none", outputs_alone) < naive / 4
    if DEVICE.type == "cuda":
        assert peak("triton") < naive / 4
        assert peak("triton", "none") < naive / 4
    monkeypatch.setattr(xent, "CHUNK_LOGITS", N * V)
    assert peak("chunked") > naive / 4


# Each of these faults, planted in a copy of the module, is seen by `check`
FAULTS = {
    "chunked": [
        ("rows.gather(1, place) - gradient", "0 * rows.gather(1, place) - gradient"),
        ("rows.mul_(gradient / total)", "rows.mul_(gradient)"),
        ("len(targets))", "1)"),
        ("dw.addmm_(dz.T, h[chunk])", "dw.copy_(dz.T @ h[chunk])"),
        ("(saved * d_total)", "saved"),
        ("slice(start, start + size) for start", "slice(start, start + size - 1) for start"),
        ("(total.log() - picked)", "total.log()"),
    ],
    "triton": [
        ('z = tl.where((offs_v < V)[None, :], z, float("-inf"))', "z = z"),
        ("mean = mean * shrink[:, None] + ", "mean = mean + "),
        ("total = total * shrink + ", "total = total + "),
        ("loss = tl.log(total) - (picked - top)", "loss = tl.log(total) - picked"),
        ("dz = tl.fma(p, tl.broadcast_to(d_losses[:, None], p.shape), -hit)", "dz = p - hit"),
        ("hit = tl.where(offs_v[None, :] == targets", "hit = tl.where(offs_v[None, :] != targets"),
        ("for start in range(0, N, BLOCK_N)", "for start in range(0, BLOCK_N, BLOCK_N)"),
        ("(dw * largest)", "dw"),
        ("z - top[:, None] - log_total[:, None]", "z - top[:, None]"),
        ("for start in range(0, D, BLOCK_K)", "for start in range(0, BLOCK_K, BLOCK_K)"),
        ("(columns < n_columns)[None, :]", "(columns < n_columns + 1)[None, :]"),
    ],
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("backend", "right", "wrong"),
    [
        pytest.param(form, *fault, marks=needs_triton if form == "triton" else ())
        for form, faults in FAULTS.items()
        for fault in faults
    ],
)
def test_a_fault_is_noticed(backend: str, right: str, wrong: str, tmp_path: Path) -> None:
    faulty = with_fault(xent, right, wrong, tmp_path)
    faulty.CHUNK_LOGITS, faulty.BLOCK_LOGITS = 400, 150
    with pytest.raises(AssertionError, match="allowed"):
        for N, V, D in ((70, 101, 7), (3, 90, 300)):
            h, weight, targets = draw(N, D), 3 * draw(V, D, seed=1), some_targets(N, V)
            check(backend, h, weight, targets, "mean", faulty)
            check(backend, h, weight, targets, "none", faulty)
    check(backend, h, weight, targets)  # the module itself is as right as before


@needs_gpu
@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_it_is_as_exact_as_plain_torch_at_published_size(backend: str, dtype: torch.dtype) -> None:
    h, weight = draw(4096, 256, dtype=dtype), 0.02 * draw(50257, 256, dtype=dtype, seed=1)
    check(backend, h, weight, some_targets(4096, 50257))
    check(backend, h, weight, some_targets(4096, 50257), "none")
