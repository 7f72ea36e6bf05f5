"""Every kernel in every form that this machine can run: time, share of the limit, memory, error.

Forms: eager (the plain reference), compiled (torch.compile of it), Triton, torch's own where there
is one, Liger's where liger-kernel is installed (the extra `bench`). Passes: forward, and forward
with backward. The limits are measured too, by a copy and by a matrix product: no datasheet.
"""

import ctypes
import gc
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.actuator import actuator, actuator_reference
from kernels.cache_update import cache_update
from kernels.dispatch import HAS_TRITON
from kernels.linear_cross_entropy import linear_cross_entropy
from kernels.modulated_add import modulated_add, modulated_add_reference
from kernels.rms_norm import rms_norm, rms_norm_reference
from ncn.benchmark.timing import in_turn
from ncn.corpus.tokenizer import GPT2_VOCABULARY
from ncn.layers import NORM_EPS
from ncn.published.claimed import PRECISION_CLAMP
from ncn.signals import SIGNALS

TOKENS = (4096, 32_768)
ROUNDS = 15
BOTH = "forward and backward"
# The published size.
D_MODEL, N_LAYERS, N_HEADS, CONTEXT = 256, 6, 8, 512

Kernel = Callable[..., Tensor | tuple[Tensor, ...]]


class Workload(NamedTuple):
    """A kernel to measure.

    inputs: made for a number of tokens, on a CPU; what is not of a floating type has no gradient.
    forms: by name, `eager` first: all others are compared with it.
    touched: the inputs that a backward pass reads, and whose gradients it writes.
    flops: of a forward pass per token, where arithmetic is the limit; 0: memory is.
    exact: no backward pass, and not one bit may differ from eager.
    """

    inputs: Callable[[int], list[Tensor]]
    forms: dict[str, Kernel]
    touched: tuple[int, ...] = ()
    flops: int = 0
    exact: bool = False


def _forms(
    device: torch.device, compiling: bool, eager: Kernel, triton: Kernel, **others: Kernel
) -> dict[str, Kernel]:
    """The forms that run on `device`."""
    made = {"eager": eager}
    if compiling and (device.type == "cuda" or which("g++")):
        made["compiled"] = torch.compile(eager, dynamic=False)
    if device.type == "cuda" and HAS_TRITON:
        made["Triton"] = triton
    return made | others


def _liger(device: torch.device, module: str, function: str) -> Any:
    """One of Liger's autograd functions, or None where it is not installed or nothing runs it."""
    if device.type != "cuda" or find_spec("liger_kernel") is None:
        return None
    return getattr(import_module(f"liger_kernel.ops.{module}"), function).apply


def _draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def elementwise_kernels(device: torch.device, compiling: bool = True) -> dict[str, Workload]:
    """The kernels that move memory, in the types of a bf16 step on a GPU or a fp32 step on a CPU.

    Args:
        device: where they will run.
        compiling: with the compiled form, where a compiler is at hand.
    """
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    outputs = [
        (signal.transformations[0], signal.columns(N_HEADS, D_MODEL))
        for signal in SIGNALS.values()
        if not signal.further
    ]
    columns = sum(width for _, width in outputs)

    def cache(tokens: int) -> list[Tensor]:
        shape = (tokens // CONTEXT or 1, N_HEADS, min(tokens, CONTEXT), D_MODEL // N_HEADS)
        k, v = _draw(*shape, dtype=half), _draw(*shape, dtype=half, seed=1)
        return [torch.zeros_like(k), torch.zeros_like(v), k, v, torch.arange(shape[2])]

    def updated(update: Callable[..., None]) -> Kernel:
        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            update(*tensors)
            return tensors[:2]

        return run

    def narrow_copy(keys: Tensor, values: Tensor, k: Tensor, v: Tensor, _: Tensor) -> None:
        keys.narrow(2, 0, k.shape[2]).copy_(k)
        values.narrow(2, 0, v.shape[2]).copy_(v)

    norms: dict[str, Kernel] = {"torch's own": lambda x, w: F.rms_norm(x, w.shape, w, NORM_EPS)}
    if (liger := _liger(device, "rms_norm", "LigerRMSNormFunction")) is not None:
        norms["Liger's"] = lambda x, w: liger(x, w, NORM_EPS, 0.0, "llama", False)
    return {
        "rms_norm": Workload(
            lambda n: [_draw(n, D_MODEL), _draw(D_MODEL, seed=1)],
            _forms(
                device, compiling,
                lambda x, w: rms_norm_reference(x, w, NORM_EPS),
                lambda x, w: rms_norm(x, w, NORM_EPS, backend="triton"),
                **norms,
            ),
            touched=(0, 1),
        ),
        "actuator": Workload(
            lambda n: [3 * _draw(n, N_LAYERS * columns, dtype=half)],
            _forms(
                device, compiling,
                lambda z: actuator_reference(z, outputs, PRECISION_CLAMP),
                lambda z: actuator(z, outputs, PRECISION_CLAMP, backend="triton"),
            ),
            touched=(0,),
        ),
        "modulated_add": Workload(
            lambda n: [_draw(n, D_MODEL), _draw(n, D_MODEL, dtype=half, seed=1), _draw(n, seed=2)],
            _forms(
                device, compiling,
                modulated_add_reference,
                lambda x, y, s: modulated_add(x, y, s, backend="triton"),
            ),
            touched=(1, 2),
        ),
        "cache_update": Workload(
            cache,
            _forms(
                device, compiling,
                updated(lambda *tensors: cache_update(*tensors, backend="reference")),
                updated(lambda *tensors: cache_update(*tensors, backend="triton")),
                **{"torch's own": updated(narrow_copy)},
            ),
            exact=True,
        ),
    }  # fmt: skip


def output_head(device: torch.device, compiling: bool = True) -> dict[str, Workload]:
    """The output head with its cross-entropy, in bf16, and on a CPU in fp32 too; as above."""

    def cross_entropy(backend: Any) -> Kernel:
        return lambda h, weight, targets: linear_cross_entropy(h, weight, targets, backend=backend)

    def head(dtype: torch.dtype) -> Workload:
        def inputs(tokens: int) -> list[Tensor]:
            weight = 0.02 * _draw(GPT2_VOCABULARY, D_MODEL, seed=1)
            stream = torch.Generator().manual_seed(2)
            targets = torch.randint(GPT2_VOCABULARY, (tokens,), generator=stream)
            return [_draw(tokens, D_MODEL, dtype=dtype), weight.to(dtype), targets]

        reference, triton = cross_entropy("reference"), cross_entropy("triton")
        forms = _forms(device, compiling, reference, triton, **others)
        return Workload(inputs, forms, flops=2 * GPT2_VOCABULARY * D_MODEL)

    others: dict[str, Kernel] = {"chunked": cross_entropy("chunked")}
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):  # from torch 2.13 on
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=1024)
        others["torch's own, 1024 rows a chunk"] = lambda h, weight, targets: (
            F.linear_cross_entropy(h, weight, targets, options=options)
        )
    module, function = "fused_linear_cross_entropy", "LigerFusedLinearCrossEntropyFunction"
    if (liger := _liger(device, module, function)) is not None:
        others["Liger's"] = lambda h, weight, targets: liger(h, weight, targets)[0]
    types = {"bf16": torch.bfloat16} | ({} if device.type == "cuda" else {"fp32": torch.float32})
    return {f"linear_cross_entropy, {name}": head(dtype) for name, dtype in types.items()}


def measure_kernels(
    device: torch.device,
    chosen: Mapping[str, Workload],
    tokens: Sequence[int] = TOKENS,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """The measured limits, and a row a kernel, size, pass and form."""
    limits = {"bytes_per_second": _copy_rate(device), "flops_per_second": product_rate(device)}
    rows = []
    for name, workload in chosen.items():
        for size in tokens:
            passes = ["forward"] if workload.exact else ["forward", BOTH]
            times = rounds
            if workload.flops and device.type == "cpu":  # many seconds a call
                passes, times = [BOTH], min(rounds, 5)
                if size > TOKENS[0]:
                    continue  # the naive logits with their gradient alone: 13 GB
            for what in passes:
                rows += _measured(name, workload, size, what, device, limits, times)
                gc.collect()
    return {"limits": limits, "rows": rows}


def _measured(
    name: str, workload: Workload, tokens: int, what: str, device: torch.device,
    limits: dict[str, float], rounds: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of one pass of a kernel at one size."""
    inputs = [each.to(device) for each in workload.inputs(tokens)]
    backward = what == BOTH
    rows = []
    runs = {form: _run(kernel, inputs, backward) for form, kernel in workload.forms.items()}
    exact = workload.forms["eager"]
    if workload.flops:  # all logits in fp64 would not fit
        exact = lambda *each: linear_cross_entropy(*each, backend="chunked")  # noqa: E731
    double = [each.double() if each.is_floating_point() else each for each in inputs]
    truth = _run(exact, inputs if workload.exact else double, backward)()
    peaks, errors = {}, {}
    for form, run in runs.items():  # the first call of a form compiles it
        errors[form] = max(_error(a, b) for a, b in zip(run(), truth, strict=True))
        peaks[form] = peak_bytes(run, device)
    # The least that has to move; `truth` is in fp64, what a form returns in fp32.
    outputs = truth if not backward else truth[: len(truth) - _differentiable(inputs)]
    width = inputs[0].element_size() if workload.exact else 4
    moved = (
        sum(each.nbytes for each in inputs[:4])
        if workload.exact
        else sum(each.nbytes for each in inputs) + sum(each.numel() * width for each in outputs)
    )
    if backward:
        moved += sum(each.numel() * width for each in outputs)
        moved += 2 * sum(inputs[place].nbytes for place in workload.touched)
    work = workload.flops * tokens * (3 if backward else 1) or moved
    limit = limits["flops_per_second" if workload.flops else "bytes_per_second"]
    del truth, outputs, double
    seconds = _seconds(runs, device, rounds, f"{name}, {tokens:,} tokens, {what}")
    for form in runs:
        rows.append({
            "kernel": name, "tokens": tokens, "pass": what, "form": form,
            "seconds": seconds[form], "per_second": work / seconds[form],
            "unit": "FLOP" if workload.flops else "B",
            "share_of_limit": work / seconds[form] / limit,
            "speed": seconds["eager"] / seconds[form],
            "peak_bytes": peaks[form], "error": errors[form],
        })  # fmt: skip
    return rows


def _differentiable(inputs: Sequence[Tensor]) -> int:
    return sum(each.is_floating_point() for each in inputs)


def _run(kernel: Kernel, inputs: Sequence[Tensor], backward: bool) -> Callable[[], list[Tensor]]:
    """A pass: returns the outputs, then the gradients."""
    leaves = [
        each.detach().requires_grad_(backward and each.is_floating_point()) for each in inputs
    ]
    wanted = [each for each in leaves if each.requires_grad]
    flows: list[Tensor] = []

    def run() -> list[Tensor]:
        with torch.set_grad_enabled(backward):
            made = kernel(*leaves)
            outputs = list(made) if isinstance(made, tuple) else [made]
        if not backward:
            return outputs
        if not flows:
            stream = torch.Generator().manual_seed(7)
            for out in outputs:  # 1 for a loss, as in training: any type holds it exactly
                flow = torch.randn(out.shape, generator=stream) if out.ndim else torch.ones(())
                flows.append(flow.to(out))
        gradients = torch.autograd.grad(outputs, wanted, flows)
        return [*(out.detach() for out in outputs), *gradients]

    return run


def _error(got: Tensor, exact: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    scale = exact.abs().max().clamp(min=torch.finfo(exact.dtype).tiny)
    return ((got.to(exact.dtype) - exact).abs().max() / scale).item()


def _seconds(
    runs: dict[str, Callable[[], Any]], device: torch.device, rounds: int, what: str
) -> dict[str, float]:
    """Median seconds of a call of each."""
    if device.type == "cuda":  # by the GPU's own clock, its cache emptied between the calls
        do_bench = import_module("triton.testing").do_bench
        return {name: do_bench(run, return_mode="median") / 1e3 for name, run in runs.items()}
    return {name: median(each) for name, each in in_turn(runs, rounds, what).items()}


def _copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written, of a large copy."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    seconds = _seconds({"copy": lambda: target.copy_(source)}, device, 10, "copy")
    return 2 * source.nbytes / seconds["copy"]


def product_rate(device: torch.device, dtype: torch.dtype | None = None) -> float:
    """FLOP a second of a large matrix product; by default in bf16 on a GPU, in fp32 on a CPU."""
    gpu = device.type == "cuda"
    size = 8192 if gpu else 2048
    dtype = dtype or (torch.bfloat16 if gpu else torch.float32)
    # Drawn: a GPU multiplies ones or zeros an eighth faster than numbers that differ.
    a = _draw(size, size, dtype=dtype).to(device)
    return 2 * size**3 / _seconds({"product": lambda: a @ a}, device, 5, "product")["product"]


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The most memory that `run` takes at any time, beyond what is held before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before

    def resident(which: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split(which + ":")[1].split()[0]) * 1024

    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed and kept would be taken unseen
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts at what is held now
    before = resident("VmRSS")
    run()
    return max(0, resident("VmHWM") - before)


def kernel_table(figures: dict[str, Any]) -> list[str]:
    """The figures as Markdown; the fastest form of each pass in bold, and what loses to eager."""
    limits = figures["limits"]
    lines = [
        f"Limits measured here: a copy {limits['bytes_per_second'] / 1e9:,.1f} GB/s, a matrix"
        f" product {limits['flops_per_second'] / 1e12:,.2f} TFLOP/s. Memory is what a pass takes"
        " beyond its inputs; error the largest difference to fp64, relative to the largest value."
        " The fastest form of a pass is bold.",
        "",
        "| kernel | tokens | pass | form | ms | rate | share | memory | error | speed of eager |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = figures["rows"]
    for row in rows:
        same = [r for r in rows if all(r[k] == row[k] for k in ("kernel", "tokens", "pass"))]
        fastest = row["seconds"] == min(each["seconds"] for each in same)
        form = f"**{row['form']}**" if fastest else row["form"]
        rate = (
            f"{row['per_second'] / 1e12:.2f} TFLOP/s"
            if row["unit"] == "FLOP"
            else f"{row['per_second'] / 1e9:.1f} GB/s"
        )
        verdict = f"{row['speed']:.2f}" + (" (loses)" if row["speed"] < 0.98 else "")
        lines.append(
            f"| {row['kernel']} | {row['tokens']:,} | {row['pass']} | {form} |"
            f" {row['seconds'] * 1e3:.3f} | {rate} | {row['share_of_limit']:.0%} |"
            f" {row['peak_bytes'] / 1e6:,.1f} MB | {row['error']:.1e} | {verdict} |"
        )
    return lines
