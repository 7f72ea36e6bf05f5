"""What several tests share."""

import gc
import os
import signal
from pathlib import Path

import hypothesis
import pytest

# Tiny tensors: two threads would only wait for each other, the longer the busier the machine.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

# Before a kernel is defined: without a GPU, Triton interprets it, in numpy.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from ncn.model import LanguageModel, build_model
from ncn.settings import Params, load_params
from ncn.settings.profiles import PROFILES, experiment

pytest_plugins = [
    "tests.browser",
    "tests.corpus.vocabulary",
    "tests.generation.saved",
    "tests.project",
]

ROOT = Path(__file__).parent.parent
PARAMS = ROOT / "tests" / "params.yaml"  # not the user's, so that no value of theirs fails a test
LONGEST = (
    "test_pipeline.py", "test_kill.py", "test_docs.py", "test_studies.py", "test_start_up.py",
    "test_page.py", "test_modes.py", "test_kernels_in_the_model.py", "test_a_new_signal.py",
    "test_decoding.py", "test_processes.py",
)  # fmt: skip
SHARED = ROOT.parent / "shared"
VOCABULARY = 97  # odd on purpose


def pytest_configure() -> None:
    """Behind a shell (&) ^C is ignored, and would be by all that a test starts and interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes, and its drawing, depends on what else the machine does.
    slow = hypothesis.HealthCheck.too_slow
    hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[slow])
    hypothesis.settings.load_profile("busy")
    gc.disable()  # while what is loaded is loaded to stay


def pytest_collection_finish() -> None:
    """Waste is searched for in what tests make, and not in all libraries again and again."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: the two workers of `make test`, a file at a time, end together."""
    place = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session")
def params() -> Params:
    """The experiment of the tests."""
    return load_params(PARAMS)


@pytest.fixture(scope="session")
def tiny(params: Params) -> Params:
    """The experiment of the tests with a tiny model."""
    shape = params.model.model_copy(
        update={"d_model": 32, "n_layers": 3, "n_heads": 4, "d_ff": 48, "context_length": 40}
    )
    control = params.ncn.model_copy(update={"hidden": 8})
    return params.model_copy(update={"model": shape, "ncn": control})


@pytest.fixture(scope="session")
def published() -> Params:
    """The published experiment, as profiles/paper.yaml has it."""
    return profiled("paper")


def profiled(name: str) -> Params:
    """The experiment of the tests with profiles/NAME.yaml laid over it."""
    return experiment(name, PARAMS, ROOT / PROFILES)


def with_arm(params: Params, **changes: object) -> Params:
    """The experiment with one more arm, named `special`."""
    return params.model_copy(update={"arms": params.arms | {"special": changes}})


def special(params: Params, seed: int = 1, **changes: object) -> LanguageModel:
    """The model of an arm with `changes`."""
    return build_model(with_arm(params, **changes), "special", VOCABULARY, seed)


def shared(name: str) -> Path:
    """A file of the shared folder; the test is skipped where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"skipped: shared/{name} is not here")
    return path
