"""One token more on a GPU: the model's pass for any place, played back. A CPU plays it as it is."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ncn.corpus.conditions import NO_CONDITIONS
from ncn.generation import decoding
from ncn.generation.decoding import conditions_of, generate, token_reader
from ncn.generation.recorded import Recorded, suits_recording
from ncn.generation.refresh import AboveEntropy, EveryTokens, Refresh
from ncn.model import LanguageModel
from ncn.settings import Params
from tests.conftest import special
from tests.generation.saved import lively
from tests.generation.test_decoding import ARMS
from tests.generation.test_one_token import OTHERS
from tests.model.test_language_model import shaken, tokens

FURTHER = [
    *(arm for arm in OTHERS if not arm.get("attention_entropy")),
    {"controller": "none", "modulator": "transponder"},
    {"controller": "none", "experts": 2, "experts_per_token": 1},
    {"salience": "causal", "signals": ["gain", "router"], "experts": 2, "experts_per_token": 1},
]
ANY = [
    *(arm for arm in ARMS if arm.id not in ("entropy", "recurrent, seeing")),
    *(pytest.param(arm, None, id=str(list(arm.values()))) for arm in FURTHER),
]
# They bring a value to the host, make one there, or a shape that depends on values.
OF_THE_HOST = {
    f"aten::{name}"
    for name in (
        "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2",
        "unique_dim", "repeat_interleave", "lift_fresh", "bincount",
    )
}  # fmt: skip
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """On this machine whatever it has; holds every reader that is made."""
    made = []

    def noted(model: LanguageModel, *given: object) -> Recorded:
        made.append(Recorded(model, *given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(decoding, "suits_recording", lambda model: True)
    monkeypatch.setattr(decoding, "Recorded", noted)
    return made


@pytest.mark.parametrize(("settings", "salience"), ANY)
@pytest.mark.parametrize("batch", [1, 3])
def test_its_logits_are_the_models(
    tiny: Params, settings: dict[str, str], salience: str | None, batch: int
) -> None:
    text, model = tokens(batch, 40), shaken(special(tiny, **settings))
    cache = model.make_cache(batch)
    with torch.inference_mode():
        for layer in cache.layers:  # whatever lies in the empty room counts for nothing
            layer.keys.fill_(torch.nan)
            layer.values.fill_(torch.nan)
        model.next_logits(text[:, :17], salience, cache)
        reader = Recorded(model, cache, batch)
        logits = [
            reader.next_logits(text[:, t : t + 1], salience, NO_CONDITIONS).clone()
            for t in range(17, 40)
        ]
        whole = model(text, salience)[:, 17:]
    assert whole.std() > 0.3  # not a comparison of zeros
    torch.testing.assert_close(torch.stack(logits, dim=1), whole, atol=1e-4, rtol=0)
    assert cache.length == 40


class Operators(TorchDispatchMode):
    """Notes every operator that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.called.add(func.overloadpacket._qualified_op_name)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(("settings", "salience"), ANY)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_host_neither_waits_nor_copies_in_the_pass(
    tiny: Params, settings: dict[str, str], salience: str | None, batch: int
) -> None:
    """Which a graph could not be recorded of."""
    text, model = tokens(batch, 20), shaken(special(tiny, **settings))
    cache = model.make_cache(batch)
    with torch.inference_mode():
        model.next_logits(text[:, :17], salience, cache)
        reader = Recorded(model, cache, batch)
        reader.next_logits(text[:, 17:18], salience, NO_CONDITIONS)
        assert reader._play is not None
        with Operators() as seen:
            reader._play()
    assert {"aten::bmm", "aten::index_copy_"} <= seen.called
    assert not seen.called & OF_THE_HOST


def test_a_pass_that_waits_would_be_seen() -> None:
    with Operators() as seen:
        torch.ones(3)[torch.tensor([True, False, True])].sum().item()
    assert {"aten::_local_scalar_dense", "aten::lift_fresh"} <= seen.called


@pytest.mark.parametrize(("settings", "salience"), ARMS[:3])
def test_texts_are_those_of_the_model_far_past_the_context(
    tiny: Params, settings: dict[str, str], salience: str | None, here: list[Recorded]
) -> None:
    model, prompts = lively(special(tiny, **settings)), tokens(2, 9)
    quick = generate(model, prompts, 120, 0.0, salience=salience)
    assert len(here) == 1
    assert torch.equal(quick, generate(model, prompts, 120, 0.0, salience=salience, cached=False))


@pytest.mark.parametrize("refresh", [EveryTokens(3), AboveEntropy(2.0)])
def test_the_tonic_signal_is_refreshed_as_asked(
    tiny: Params, refresh: Refresh, here: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts = lively(special(tiny, salience="causal", tasks=3)), tokens(2, 9)
    given = {"temperature": 0.0, "refresh": refresh, "conditions": conditions_of(model, 2)}
    quick = generate(model, prompts, 100, **given)
    assert len(here) == 1
    monkeypatch.setattr(decoding, "token_reader", lambda *_: None)
    assert torch.equal(quick, generate(model, prompts, 100, **given))


def test_what_is_told_may_change_in_mid_text(tiny: Params) -> None:
    model, text = shaken(special(tiny, salience="causal", tasks=3)), tokens(1, 30)
    caches = [model.make_cache(1) for _ in range(2)]
    told = [conditions_of(model, t % 3) for t in range(30)]
    with torch.inference_mode():
        for cache in caches:
            model.next_logits(text[:, :10], None, cache)
        reader = Recorded(model, caches[0], 1)
        for t in range(10, 30):
            quick = reader.next_logits(text[:, t : t + 1], None, told[t])
            plain = model.next_logits(text[:, t : t + 1], None, caches[1], told[t])
            torch.testing.assert_close(quick, plain, atol=1e-4, rtol=0)


def test_a_cpu_and_what_the_host_has_to_look_at_are_the_models_own(tiny: Params) -> None:
    assert not suits_recording(lively(special(tiny)))
    assert token_reader(lively(special(tiny)), lively(special(tiny)).make_cache(3), 3) is None


@needs_gpu
@pytest.mark.parametrize(("settings", "salience"), ANY)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_gpu_plays_a_graph_back(
    tiny: Params, settings: dict[str, str], salience: str | None, batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, prompts = lively(special(tiny, **settings)).cuda(), tokens(batch, 9).cuda()
    assert suits_recording(model)
    played = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda graph: (played.append(graph), replay(graph))
    )
    quick = generate(model, prompts, 200, 0.0, salience=salience)
    assert len(played) > 100
    assert len(set(map(id, played))) == 1
    monkeypatch.setattr(decoding, "token_reader", lambda *_: None)
    assert torch.equal(quick, generate(model, prompts, 200, 0.0, salience=salience))


@needs_gpu
def test_what_a_gpu_cannot_record_is_the_models_own(tiny: Params) -> None:
    seeing = lively(special(tiny, salience="causal", attention_entropy=True)).cuda()
    assert not suits_recording(seeing)
    skipping = lively(special(tiny)).cuda()
    skipping.skip_below(0.5)
    assert not suits_recording(skipping)
