"""Compile each kernel for GPUs that are not here, and print what it takes of them, as JSON.

    python -m tests.ahead_of_time          (without TRITON_INTERPRET, which defines no kernel)

{target: {kernel: {"registers": a thread, "spilled": bytes (sm_90) or registers (gfx942) that did
not fit and live in memory, "shared": bytes a block}}}
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels import actuator, cache_update, linear_cross_entropy, modulated_add, rms_norm

TARGETS = {"sm_90": GPUTarget("cuda", 90, 32), "gfx942": GPUTarget("hip", "gfx942", 64)}
TYPES = ("fp32", "bf16")  # in registers, fp16 is bf16
PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"


class Case(NamedTuple):
    """A kernel as it is launched at the published size (D 256, 6 layers, 3 signals).

    Arguments are what their names say: `..._ptr` a pointer to T unless `types` has another,
    anything else an integer. Those of `whole` are multiples of 16, which Triton is told.
    """

    kernel: Any
    constants: dict[str, Any]
    types: Mapping[str, str] = MappingProxyType({})
    whole: tuple[str, ...] = ("D",)
    options: Mapping[str, Any] = MappingProxyType({})


NORM = {"BLOCK_N": 8, "BLOCK_D": 256}
ACTUATOR = {"L": 6, "C": 3, "BLOCK_N": 64, "BLOCK_C": 32}
ACTUATED = {"out_ptr": "*fp32", "d_ptr": "*fp32", "columns_ptr": "*i32", "maximum": "fp32"}
BRANCH = {"x_ptr": "*fp32", "out_ptr": "*fp32", "dout_ptr": "*fp32", "s_ptr": "*fp32"}
INNER = dict.fromkeys((f"stride_{name}_k" for name in ("keys", "values", "k", "v")), 1)

CASES = {
    "rms_norm forward": Case(rms_norm._forward, NORM, {"eps": "fp32"}),
    "rms_norm backward": Case(
        rms_norm._backward, NORM, {"eps": "fp32", "dweight_ptr": "*fp32"}
    ),
    "actuator forward": Case(actuator._forward, ACTUATOR, ACTUATED),
    "actuator backward": Case(actuator._backward, ACTUATOR, ACTUATED),
    "modulated_add forward": Case(modulated_add._forward, NORM, BRANCH),
    "modulated_add backward": Case(modulated_add._backward, NORM, BRANCH | {"ds_ptr": "*fp32"}),
    "cache_update": Case(
        cache_update._copy,
        {"BLOCK_T": 16, "BLOCK_K": 32} | INNER,
        {"positions_ptr": "*i64"},
        options={"debug": True},
    ),
    # Not ours: shows that the limits can be passed.
    "a block too large": Case(
        modulated_add._backward, {"BLOCK_N": 64, "BLOCK_D": 256}, BRANCH | {"ds_ptr": "*fp32"}
    ),
}  # fmt: skip


def cross_entropy(backward: bool, dtype: str, target: GPUTarget) -> Case:
    """The kernel of the output head, in the blocks that it chooses for `dtype` on `target`."""
    chosen = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    sizes = linear_cross_entropy._launch(chosen, 256, backward, hip=target.backend == "hip")
    options = {name: sizes.pop(name) for name in ("num_warps", "num_stages")}
    fp32 = ("losses", "top", "log_total", "mean", "d_losses", "dw")
    types = {f"{name}_ptr": "*fp32" for name in fp32} | {"targets_ptr": "*i64"}
    kernel = linear_cross_entropy._backward if backward else linear_cross_entropy._forward
    constants = sizes if backward else sizes | {"WITH_MEAN": True}
    return Case(kernel, constants, types, options=options)


def compiled(case: Case, dtype: str, target: GPUTarget) -> Any:
    """The kernel for `target`, with tensors of `dtype`."""
    names = case.kernel.arg_names
    signature, told = {}, {}
    for place, name in enumerate(names):
        if name in case.constants:
            signature[name] = "constexpr"
            continue
        signature[name] = case.types.get(name, f"*{dtype}" if name.endswith("_ptr") else "i32")
        if name.endswith("_ptr") or name in case.whole:
            told[(place,)] = [["tt.divisibility", 16]]
    constants = {(names.index(name),): value for name, value in case.constants.items()}
    source = ASTSource(case.kernel, signature, constants, told)
    return triton.compile(source, target=target, options=dict(case.options))


def taken(kernel: Any, target: GPUTarget) -> dict[str, int]:
    """What a compiled kernel takes of the machine."""
    if target.backend == "hip":
        text = kernel.asm["amdgcn"]
        figures = dict(re.findall(r"\.([sv]gpr_(?:spill_)?count):\s+(\d+)", text))
        registers = int(figures["vgpr_count"])
        spilled = int(figures["vgpr_spill_count"]) + int(figures["sgpr_spill_count"])
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernel.ptx"
            file.write_text(kernel.asm["ptx"])
            command = [PTXAS, "-v", "--gpu-name", "sm_90a", file, "-o", file.with_suffix(".cubin")]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        registers = int(re.findall(r"Used (\d+) registers", said)[0])
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", said)))
    return {"registers": registers, "spilled": spilled, "shared": kernel.metadata.shared}


def main() -> None:
    """Compile all cases for all targets."""
    figures: dict[str, dict[str, dict[str, int]]] = {}
    for name, target in TARGETS.items():
        figures[name] = {}
        for label, case in CASES.items():
            for dtype in TYPES if label != "a block too large" else ("fp32",):
                figures[name][f"{label}, {dtype}"] = taken(compiled(case, dtype, target), target)
        for dtype in TYPES:
            for direction in ("forward", "backward"):
                case = cross_entropy(direction == "backward", dtype, target)
                made = compiled(case, dtype, target)
                figures[name][f"cross_entropy {direction}, {dtype}"] = taken(made, target)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
