"""Task tokens: the transformer is told the task at the first position of the window alone."""

import pytest
import torch

from ncn.common.errors import InputError
from ncn.corpus.conditions import Conditions
from ncn.generation import generate
from ncn.generation.decoding import conditions_of
from ncn.model import LanguageModel, build_model, load_model, parameter_count, save_model
from ncn.publish.repository import loads_in_transformers
from ncn.settings import Params
from tests.conftest import VOCABULARY, special, with_arm

TOKENS = torch.arange(24).view(2, 12) % VOCABULARY
TASK = Conditions(task=torch.tensor([1, 2]))
ARMS = [
    {"controller": "none"},
    {"salience": "causal"},
    {"salience": "causal", "tasks": 3},
    {"salience": "causal", "phasic": "layer"},
]


def told(params: Params, **changes: object) -> LanguageModel:
    return special(params, task_tokens=3, **changes).eval()


@pytest.mark.parametrize("arm", ARMS)
def test_another_task_is_another_function_and_none_is_the_model_without(
    tiny: Params, arm: dict[str, object]
) -> None:
    model, plain = told(tiny, **arm, match="none"), special(tiny, **arm, match="none").eval()
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert missing.unexpected_keys == ["task_tokens.weight"]
    assert torch.equal(model(TOKENS), plain(TOKENS))
    assert not torch.equal(model(TOKENS, conditions=TASK), model(TOKENS))
    with torch.no_grad():
        model.task_tokens.weight[1:3] = 0
    if not arm.get("tasks"):
        assert torch.equal(model(TOKENS, conditions=TASK), plain(TOKENS))


@pytest.mark.parametrize("arm", ARMS)
def test_a_change_at_a_token_leaves_earlier_logits_as_they_are(
    tiny: Params, arm: dict[str, object]
) -> None:
    model = told(tiny, **arm)
    changed = TOKENS.clone()
    changed[:, 7] += 1
    both = (model(each, conditions=TASK)[:, :7] for each in (TOKENS, changed))
    assert torch.equal(*both)


@pytest.mark.parametrize("arm", ARMS)
def test_what_the_caches_generate_is_what_the_whole_window_says(
    tiny: Params, arm: dict[str, object]
) -> None:
    model = told(tiny, **arm)
    for prompt in (TOKENS[:1, :1], TOKENS[:1, :5]):
        given = conditions_of(model, task=1)
        # Beyond the context too, where the window begins anew.
        n = model.config.context_length + 3
        cached, whole = (
            generate(model, prompt, n, temperature=0, conditions=given, cached=each)
            for each in (True, False)
        )
        assert torch.equal(cached, whole)


def test_the_arm_is_as_large_as_any_other(tiny: Params) -> None:
    sizes = [
        parameter_count(build_model(with_arm(tiny, **arm), "special", VOCABULARY).config)
        for arm in ({"controller": "none"}, {"controller": "none", "task_tokens": 3})
    ]
    assert abs(sizes[0] - sizes[1]) <= tiny.model.n_layers * (2 * tiny.model.d_model + 1)
    model = told(tiny, controller="none", match="none")
    rows = model.config.model_copy(update={"task_tokens": 0})
    assert parameter_count(model.config) - parameter_count(rows) == 3 * tiny.model.d_model


def test_it_is_saved_and_loaded_and_no_task_beyond_its_own_is_taken(
    tiny: Params, tmp_path: object
) -> None:
    model = told(tiny, controller="none")
    save_model(model, f"{tmp_path}/m")
    again = load_model(f"{tmp_path}/m").eval()
    assert torch.equal(again(TOKENS, conditions=TASK), model(TOKENS, conditions=TASK))
    assert not loads_in_transformers(model.config)
    with pytest.raises(InputError, match="task 3: allowed are 0 to 2"):
        conditions_of(model, task=3)
