"""The kernels compile for GPUs that are not here, and fit into their registers."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.parity import needs_triton

pytestmark = needs_triton

# Of 65,536 a multiprocessor (sm_90): 128 a thread leave room for 16 warps, enough to hide memory.
MAX_REGISTERS = 128
# The output head multiplies matrices and takes all there are. What it spills beyond them, bytes
# (sm_90) or registers (gfx942), may not grow: little in bf16 on sm_90, too much elsewhere.
MAX_SPILLED = {
    ("sm_90", "fp32"): 42_000, ("sm_90", "bf16"): 128,
    ("gfx942", "fp32"): 256, ("gfx942", "bf16"): 256,
}  # fmt: skip
MAX_SHARED = {"sm_90": 232_448, "gfx942": 65_536}  # bytes a block: more does not start

Figures = dict[str, dict[str, dict[str, int]]]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """What every kernel takes, compiled now and not read from a cache."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, "-m", "tests.ahead_of_time"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def fits(target: str, name: str, taken: dict[str, int]) -> bool:
    if taken["shared"] > MAX_SHARED[target]:
        return False
    if name.startswith("cross_entropy"):
        return taken["spilled"] <= MAX_SPILLED[target, name.split(", ")[1]]
    return taken["spilled"] == 0 and taken["registers"] <= MAX_REGISTERS


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_every_kernel_compiles_and_fits(figures: Figures, target: str) -> None:
    ours = {name: taken for name, taken in figures[target].items() if "too large" not in name}
    assert len(ours) == 18  # nine kernels in two types
    assert {name: taken for name, taken in ours.items() if not fits(target, name, taken)} == {}


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_a_block_that_does_not_fit_is_noticed(figures: Figures, target: str) -> None:
    name = "a block too large, fp32"
    assert not fits(target, name, figures[target][name])
