"""The mixture of experts and its router, against their equations."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ncn.common.errors import InputError
from ncn.model import LanguageModel, model_config, parameter_count
from ncn.model.experts import Router, imbalance
from ncn.model.flops import flops_per_token
from ncn.settings import Params, load_params
from tests.conftest import VOCABULARY, special, with_arm
from tests.settings.test_whole import Change, changed
from tests.training.test_step import curve, engine

GPT2 = 50_257


def mixture(params: Params, per_token: int, **changes: Any) -> LanguageModel:
    """Four experts, whose router tells tokens apart."""
    settings = {"controller": "none", "experts": 4, "experts_per_token": per_token, **changes}
    model = special(params, **settings).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.router.scores.weight)
    return model


def routers(model: LanguageModel) -> list[Router]:
    return [block.router for block in model.blocks]


@pytest.mark.parametrize("per_token", [1, 2, 4])
@pytest.mark.parametrize("biased", [False, True])
def test_each_token_goes_through_its_most_probable_experts(
    tiny: Params, per_token: int, biased: bool
) -> None:
    block, x = mixture(tiny, per_token).double().blocks[0], torch.randn(2, 6, 32).double()
    odds = 2 * torch.rand(2, 6, 4).double() if biased else None
    signals = {} if odds is None else {"router": odds}
    normed, forward = block.feed_forward_norm(x), block.feed_forward
    scores = normed @ block.router.scores.weight.T
    p = (scores if odds is None else scores + odds.log()).softmax(-1)
    part = forward.up.out_features // 4
    expected = x.clone()
    for b, t in [(b, t) for b in range(2) for t in range(6)]:
        chosen = p[b, t].argsort(descending=True)[:per_token]
        total = p[b, t, chosen].sum() if per_token > 1 else 1.0
        for e in chosen.tolist():
            mine = slice(e * part, (e + 1) * part)
            hidden = F.gelu(forward.up.weight[mine] @ normed[b, t] + forward.up.bias[mine])
            expected[b, t] += p[b, t, e] / total * (forward.down.weight[:, mine] @ hidden)
        expected[b, t] += forward.down.bias
    torch.testing.assert_close(block.fed(x, signals), expected)
    assert len({*p.argmax(-1).flatten().tolist()}) > 1  # tokens differ


def test_neutral_odds_are_the_plain_router(tiny: Params) -> None:
    block, x = mixture(tiny, 2).blocks[0], torch.randn(2, 6, 32)
    assert torch.equal(block.fed(x, {"router": torch.ones(2, 6, 4)}), block.fed(x, {}))
    assert block.fed(x, {"router": torch.zeros(2, 6, 4)}).isfinite().all()


def test_the_balance_is_1_where_all_are_alike_and_the_number_of_experts_where_one_has_all(
    tiny: Params,
) -> None:
    (router, *_), x = routers(mixture(tiny, 1)), torch.ones(3, 5, 32)
    for scale, expected in ((0.0, 1.0), (50.0, 4.0)):
        with torch.no_grad():
            router.scores.weight.zero_()
            router.scores.weight[2] = scale
        router(x)
        assert router.balance is not None
        assert router.balance.item() == pytest.approx(expected)


def test_the_penalty_is_the_balance_of_all_layers_a_row_at_a_time(tiny: Params) -> None:
    model = mixture(tiny, 2)
    text = torch.randint(VOCABULARY, (4, 24))

    def penalty(rows: Tensor) -> Tensor:
        return model.loss(rows, rows)[1]

    whole = penalty(text)
    summed = sum(router.balance.item() for router in routers(model) if router.balance is not None)
    assert whole.item() == pytest.approx(tiny.model.balance * summed)
    assert whole.item() > tiny.model.balance * len(model.blocks)
    by_row = torch.stack([penalty(row[None]) for row in text])
    torch.testing.assert_close(by_row.mean(), whole)
    assert imbalance([None, None]) is None


def test_the_router_adds_its_scores_and_no_more(published: Params) -> None:
    plain, routed = (
        model_config(
            with_arm(published, controller="none", match="none", experts=experts), "special", GPT2
        )
        for experts in (1, 8)
    )
    assert parameter_count(routed) - parameter_count(plain) == 6 * 256 * 8
    assert flops_per_token(routed) - flops_per_token(plain) == 2 * 6 * 256 * 8
    matched = with_arm(published, controller="none", multiple_of=1, experts=8)
    config = model_config(matched, "special", GPT2)
    assert config.d_ff % 8 == 0
    assert abs(parameter_count(config) - 18_007_762) <= 8 * 6 * 513 / 2


def test_one_expert_is_the_plain_feed_forward(tiny: Params) -> None:
    plain, one = special(tiny, controller="none"), special(tiny, controller="none", experts=1)
    assert [*one.state_dict()] == [*plain.state_dict()]
    assert "experts" not in one.config.model_dump()
    assert mixture(tiny, 2).config.model_dump()["experts_per_token"] == 2


@pytest.mark.parametrize(
    "changes",
    [{"checkpointing": True}, {"micro_batch_size": 2, "grad_accum_steps": 4}],
)
def test_however_a_step_is_computed_it_is_the_same(tiny: Params, changes: dict[str, Any]) -> None:
    arm = with_arm(tiny, salience="causal", signals=["gain", "router"], experts=4)
    plain = curve(engine(arm, "special", dropout=0.0, micro_batch_size=8), 5)
    other = curve(engine(arm, "special", dropout=0.0, **{"micro_batch_size": 8, **changes}), 5)
    assert other == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("model.experts", 5), "model: d_ff 512 is not divisible by the experts 5"),
        (("model.experts_per_token", 2), "model: experts_per_token 2 are more than the experts 1"),
        (("arms.ncn", {"experts": 2, "experts_per_token": 3}), "3 are more than the experts 2"),
        (("arms.ncn", {"signals": ["router"]}), "arms.ncn: the signal router needs model.experts"),
        (("ncn.signals", ["router"]), "ncn: the signal router needs model.experts of 2 or more"),
        (("arms.ncn", {"experts": 0}), "arms.ncn: experts: it should be greater than or equal"),
    ],
)
def test_what_cannot_be_routed_is_said(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        load_params(changed(tmp_path, change))
