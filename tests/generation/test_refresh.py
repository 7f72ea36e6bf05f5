"""Refresh policies: when the tonic signal is computed anew, read from text."""

import pytest

from ncn.common.errors import InputError
from ncn.generation.refresh import ALWAYS, AboveEntropy, EveryTokens, parse_refresh


@pytest.mark.parametrize(
    "text", ["0", "-3", "entropy:", "entropy:-1", "entropy:nan", "often", "x:1"]
)
def test_a_refresh_policy_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^refresh .*: allowed are "):
        parse_refresh(text)


def test_refresh_policies_are_read_from_text() -> None:
    assert [parse_refresh(text) for text in ("1", "8", "entropy:2.5")] == [
        ALWAYS, EveryTokens(8), AboveEntropy(2.5),
    ]  # fmt: skip
