"""Parts of a model by name: what belongs to them, which one counts, which are refused."""

import pytest

from ncn.settings import Params
from ncn.settings.parameters import check_part, parameter_names
from ncn.training.optimizer import belongs, factor_of
from tests.conftest import special
from tests.model.test_modes import MODES


def test_the_names_are_those_of_the_models_that_arms_build(tiny: Params) -> None:
    built = {
        name for mode in MODES.values() for name, _ in special(tiny, **mode).named_parameters()
    }
    assert built == set(parameter_names(tiny.model.n_layers))


@pytest.mark.parametrize(
    ("part", "name", "inside"),
    [
        ("control", "control.pooling.q_proj.weight", True),
        ("control.pooling", "control.norm.weight", False),
        ("blocks.1", "blocks.1.attention.qkv.weight", True),
        ("blocks.1", "blocks.10.attention.qkv.weight", False),
        ("blocks.*.attention", "blocks.10.attention.qkv.weight", True),
        ("blocks.*.attention", "blocks.10.attention_norm.weight", False),
        ("*.norm", "control.norm.weight", True),
        ("norm.weight", "norm.weight", True),
        ("norm.weight.more", "norm.weight", False),
    ],
)
def test_a_part_is_the_start_of_a_name_up_to_a_dot(part: str, name: str, inside: bool) -> None:
    assert belongs(name, part) is inside


def test_the_closest_of_several_parts_counts() -> None:
    name = "blocks.0.attention.qkv.weight"
    factors = {"blocks.*.attention": 4.0, "blocks.0": 3.0, "blocks.*": 2.0, "control": 9.0}
    assert factor_of(name, factors) == 4.0
    assert factor_of("blocks.0.feed_forward.up.bias", factors) == 3.0
    assert factor_of("blocks.1.feed_forward.up.bias", factors) == 2.0
    assert factor_of("norm.weight", factors) == 1.0
    assert factor_of(name, {"blocks.0.*": 5.0, "*.0.attention": 6.0}) == 6.0  # as many *: the last


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("controll", "'controll'; allowed are embedding, positions, task_tokens, control, norm"),
        ("blocks.7", "'7'; allowed are 0, 1, 2, *"),
        ("control.pool", "'pool'; allowed are bias, pooling, norm,"),
        ("norm.weight.x", "'x'; nothing is below it"),
        ("", "''; allowed are embedding,"),
    ],
)
def test_a_part_that_no_model_has_is_answered_with_those_there_are(part: str, words: str) -> None:
    with pytest.raises(ValueError, match="no parameter is at") as refused:
        check_part(part, n_layers=3)
    assert words in str(refused.value)
