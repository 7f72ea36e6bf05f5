"""Keys and values that lie close together are those of the plain cache."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ncn.generation.caches import STEP, CloseKeyValues
from ncn.model.blocks import KeyValues

CONTEXT = 3 * STEP + 5


@given(st.lists(st.integers(1, STEP + 3), min_size=1, max_size=8), st.booleans())
def test_they_hold_what_the_plain_cache_holds(pieces: list[int], one_by_one: bool) -> None:
    torch.manual_seed(len(pieces))
    empty, positions = torch.empty(2, 3, CONTEXT, 4), torch.arange(CONTEXT)
    plain, close = KeyValues(empty, positions), CloseKeyValues(empty, positions)
    for piece in pieces:
        if plain.length + piece > CONTEXT:  # a window that starts anew
            plain.length = close.length = 0
        k, v = torch.randn(2, 2, 3, piece, 4)
        right = plain.extend(k, v, "reference")
        if one_by_one:
            for t in range(piece):
                mine = close.append(torch.stack([k, v])[:, :, :, t : t + 1])
        else:
            mine = close.extend(k, v, "reference")
        assert all(torch.equal(a, b) for a, b in zip(mine, right, strict=True))
        assert close.length == plain.length <= close.keys.shape[2] <= CONTEXT
        assert close.both.is_contiguous()
        assert bool(close.both.isfinite().all())
