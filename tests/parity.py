"""What a kernel is held to: the same numbers as its reference in float64, up to rounding.

Where there is no GPU, tests/conftest.py lets Triton interpret the kernels.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="skipped: triton is not installed"
)
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="skipped: no GPU on this machine"
)

Kernel = Callable[..., Tensor | tuple[Tensor, ...]]


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Normal numbers on the device of the tests."""
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=stream).to(DEVICE, dtype)


def outputs_and_gradients(kernel: Kernel, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What `kernel` makes of `inputs`, then the gradient of each for fixed gradients of those."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    made = kernel(*leaves)
    outputs = made if isinstance(made, tuple) else (made,)
    flows = [draw(*out.shape, seed=9 + i).to(out.dtype) for i, out in enumerate(outputs)]
    return [*(out.detach() for out in outputs), *torch.autograd.grad(outputs, leaves, flows)]


def outputs_alone(kernel: Kernel, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What `kernel` makes of `inputs`."""
    with torch.no_grad():
        made = kernel(*inputs)
    return [*made] if isinstance(made, tuple) else [made]


def assert_as_exact_as_torch(
    kernel: Kernel, plain: Kernel, inputs: Sequence[Tensor], gradients: bool = True
) -> None:
    """Output and each gradient: an error at most three times that of `plain` in the same types.

    One unit in the last place is granted on top: on few elements the plain error may be 0 by luck.
    """
    results = outputs_and_gradients if gradients else outputs_alone
    truth = results(plain, [each.double() for each in inputs])
    mine, theirs = results(kernel, inputs), results(plain, inputs)
    for number, (got, beside, exact) in enumerate(zip(mine, theirs, truth, strict=True)):
        assert got.shape == exact.shape, number
        assert got.dtype == beside.dtype, number
        error = (got.double() - exact).abs().max()
        unit = torch.finfo(got.dtype).eps * exact.abs().max()
        allowed = 3 * (beside.double() - exact).abs().max() + unit
        assert error <= allowed, f"result {number}: error {error:.3g}, allowed {allowed:.3g}"


def with_fault(module: ModuleType, right: str, wrong: str, folder: Path) -> ModuleType:
    """A copy of a kernel's module in which the only `right` is `wrong`: tests must notice.

    Its operators have names of their own: under the old ones they would replace the right ones.
    """
    assert module.__file__ is not None
    text = Path(module.__file__).read_text()
    assert text.count(right) == 1, f"{right!r} is there {text.count(right)} times"
    name = f"faulty_{module.__name__.split('.')[-1]}"
    file = folder / f"{name}.py"  # Triton reads the source of its kernels from a file
    file.write_text(text.replace(right, wrong).replace("ncn_kernels::", f"{name}::"))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    faulty = importlib.util.module_from_spec(spec)
    sys.modules[name] = faulty
    spec.loader.exec_module(faulty)
    return faulty
