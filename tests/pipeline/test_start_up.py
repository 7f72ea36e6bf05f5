"""A stage loads no library that it does not use: each is paid for at every start."""

import os
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from tests.pipeline.rooms import PACKAGES, modules

STAGES = sorted(
    file.stem for file in modules() if file.parts[0] == "stages" and file.stem != "__init__"
)
# Not tune: most experiments have no grid, and then it trains nothing.
MODELS = {
    "train", "evaluate", "robustness", "brain_scan", "conditional", "generate", "adapt",
}  # fmt: skip
FIGURES = {"compare", "robustness", "convergence", "scaling", "brain_scan", "conditional"}
# What takes long to import, and the stages that may. The rest is imported where it is needed.
LOADED_BY = {
    "torch": MODELS,
    "matplotlib": FIGURES,
    "scipy.special": FIGURES | {"evaluate", "adaptation", "report"},
    "scipy.optimize": {"convergence"},
    "huggingface_hub": {"download"},
    "vl_convert": {"report"},
    "torch._dynamo": set(),
    "scipy.stats": set(),
    "matplotlib.backends.backend_pdf": set(),
    "tokenizers": set(),
    "pandas": set(),
    "dvc": set(),
    "transformers": set(),
} | ({} if torch.backends.cuda.is_built() else {"triton": set()})


def loaded(code: str) -> set[str]:
    """The modules that Python has after `code`."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_loads_only_the_libraries_that_it_uses(stage: str) -> None:
    needed = {library for library, stages in LOADED_BY.items() if stage in stages}
    assert loaded(f"import stages.{stage}") & LOADED_BY.keys() == needed


def test_a_stage_notes_its_code_before_any_that_computes_is_loaded() -> None:
    ours = {name for name in loaded("import stages") if name.split(".")[0] in PACKAGES}
    assert ours == {
        "stages", "ncn", "ncn.code_at_start", "ncn.common", "ncn.common.errors", "ncn.common.files"
    }  # fmt: skip
    noted = loaded("import stages, ncn.code_at_start as code; print(*code._noted)")
    assert str(ROOT) in noted


def test_a_command_that_generates_loads_only_what_it_uses() -> None:
    assert loaded("import ncn.commands.generate") & LOADED_BY.keys() == {"torch"}


STARTED = """
import gc
import ncn.common.before_torch
from ncn.common.errors import run_command
print(gc.isenabled())
run_command(lambda: print(gc.isenabled()))
"""


@pytest.mark.parametrize(("package", "searched"), [("stages", False), ("elsewhere", True)])
def test_waste_is_searched_for_from_where_the_work_begins(package: str, searched: bool) -> None:
    spec = f"from importlib.machinery import ModuleSpec\n__spec__ = ModuleSpec('{package}.x', None)"
    done = subprocess.run(
        [sys.executable, "-c", spec + STARTED],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(searched), "True"]
