"""The profiles of larger models, built without storage."""

import pytest

from ncn.model.build import model_config, parameter_count
from tests.conftest import profiled

VOCABULARY = 50_257


SIZES = {"18m": 18e6, "100m": 1e8, "350m": 3.5e8, "1b": 1e9}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_a_profile_has_the_size_of_its_name_and_its_arms_the_same(name: str, size: float) -> None:
    params = profiled(name)
    counts = {arm: parameter_count(model_config(params, arm, VOCABULARY)) for arm in params.arms}
    assert counts["ncn"] == pytest.approx(size, rel=0.05)
    assert list(counts.values()) == pytest.approx([counts["ncn"]] * len(counts), rel=1e-3)
    ncn = model_config(params, "ncn", VOCABULARY)
    backbone = parameter_count(ncn.model_copy(update={"control": None}))
    assert 0.01 < 1 - backbone / counts["ncn"] < 0.02  # published: 1.56 %
