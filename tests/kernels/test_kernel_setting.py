"""`train.kernels`: each form trains the same model, and what cannot run says so in one line."""

from unittest.mock import Mock

import numpy as np
import pytest

from kernels import dispatch, linear_cross_entropy
from ncn.common.errors import InputError
from ncn.corpus.rows import Rows
from ncn.model import build_model
from ncn.settings import Params
from ncn.training.step import Engine
from tests.conftest import VOCABULARY
from tests.parity import DEVICE, needs_triton

LR = 3e-3


def losses(params: Params, kernels: str, steps: int, length: int = 17) -> list[float]:
    """The loss curve of `ncn_causal` on rows that can be learned by counting pairs."""
    train = params.train.model_copy(update={"kernels": kernels, "grad_accum_steps": 1})
    model = build_model(params, "ncn_causal", VOCABULARY, 1).to(DEVICE)
    engine = Engine(model, train, seed=1)
    stream = np.random.default_rng(0)

    def batch() -> Rows:
        starts = stream.integers(VOCABULARY, size=(train.micro_batch_size, 1))
        return ((starts + 3 * np.arange(length)) % VOCABULARY).astype(np.uint16)

    return [engine.step(batch(), LR).loss for _ in range(steps)]


def test_a_hundred_steps_are_the_same_in_chunks(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_cross_entropy, "CHUNK_LOGITS", 40 * VOCABULARY)
    plain, chunked = (losses(tiny, kernels, 100) for kernels in ("reference", "chunked"))
    assert plain[-1] < plain[0] / 2  # a curve, not a line
    np.testing.assert_allclose(chunked, plain, rtol=1e-3)
    assert chunked != plain  # the setting reached the model


@needs_triton
def test_steps_are_the_same_with_triton(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, length = (100, 17) if DEVICE.type == "cuda" else (6, 5)  # interpreted: 0.5 s a step
    flash = Mock(wraps=linear_cross_entropy._flash)
    monkeypatch.setattr(linear_cross_entropy, "_flash", flash)
    plain = losses(tiny, "reference", steps, length)
    assert plain[-1] < plain[0]
    assert not flash.called
    np.testing.assert_allclose(losses(tiny, "triton", steps, length), plain, rtol=1e-3)
    assert flash.call_count >= steps  # not by the numbers: some processors round both forms alike


def test_asking_for_what_the_machine_lacks_is_one_clear_error(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "INTERPRETED", False)
    model = build_model(tiny, "ncn", VOCABULARY, 1)
    train = tiny.train.model_copy(update={"kernels": "triton"})
    monkeypatch.setattr(dispatch, "HAS_TRITON", True)
    with pytest.raises(InputError, match=r"^train\.kernels: triton needs a GPU and this is cpu; "):
        Engine(model, train, seed=1)
    monkeypatch.setattr(dispatch, "HAS_TRITON", False)
    with pytest.raises(InputError, match=r"^train\.kernels: triton needs the package"):
        Engine(model, train, seed=1)
    for allowed in ("auto", "reference", "chunked"):
        model.use_kernels(allowed)
