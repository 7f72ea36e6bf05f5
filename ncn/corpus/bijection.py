"""Permutations that are computed, not held: where each number goes, in memory that does not grow.

A Feistel network (M. Luby and C. Rackoff, "How to construct pseudorandom permutations from
pseudorandom functions", 1988) on the smallest square of a power of two that holds the numbers; what
falls outside is sent through again until it falls inside. Of fewer than some hundred numbers such
networks make some orders more often than others, so that up to HELD a drawn list serves better.

The published order is a list that was drawn, torch.randperm's (R. Fisher and F. Yates, 1938): each
step i of n - 1 swaps what stands at i with what stands at one of the n - i places from i on, drawn
by the Mersenne Twister. Its steps are undone here, or its first ones taken; no list is held.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.uint64]

HELD = 1 << 16
ROUNDS = 8
LISTED = (2**32 - 1) // 20  # from so many on torch draws another list
STEPS = 1 << 18  # of a shuffle, looked at together: some 10 MB


def permuted(places: Places, n: int, keys: Places) -> Places:
    """Where a permutation of 0 to n - 1 sends these places; another one for other keys."""
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))  # bits
    found: Places = _sent(places, half, keys)
    while (outside := found >= n).any():
        found[outside] = _sent(found[outside], half, keys)
    return found


def _sent(values: Places, half: np.uint64, keys: Places) -> Places:
    """Once through the network, on numbers of 2 `half` bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << half) | right


def _mixed(values: Places) -> Places:
    """Every bit of the result depends on every bit of the value (the mixer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def unshuffled(labels: NDArray[np.uint8], seed: int) -> None:
    """Bring the labels of the places in torch's list of 0 to n - 1 to the numbers that stand there.

    Args:
        labels: of each place, and afterwards of each number, [n], n below LISTED.
        seed: of the generator that draws the list.
    """
    n = len(labels)
    chunks = [(first, min(n - 1, first + STEPS)) for first in range(0, n - 1, STEPS)]
    generator, states = _generator(seed), []
    for first, end in chunks:
        states.append(generator.state)
        generator.random_raw(end - first, output=False)
    for (first, end), state in zip(reversed(chunks), reversed(states), strict=True):
        generator.state = state
        _undo(labels, first, _drawn(generator, first, end, n))


def first_of_shuffled(n: int, wanted: int, seed: int) -> Iterator[int]:
    """The first `wanted` of torch's list of 0 to n - 1, n below LISTED."""
    generator, moved = _generator(seed), dict[int, int]()  # what stands where no longer itself does
    for first in range(0, min(wanted, n - 1), STEPS):
        end = min(wanted, n - 1, first + STEPS)
        for place, other in enumerate(_drawn(generator, first, end, n).tolist(), first):
            ours = moved.pop(place, place)
            if other == place:
                yield ours
            else:
                yield moved.get(other, other)
                moved[other] = ours
    if wanted >= n > 0:
        yield moved.get(n - 1, n - 1)


def _generator(seed: int) -> np.random.MT19937:
    """As torch seeds its own."""
    generator = np.random.MT19937()
    seeded: Any = np.random.RandomState(seed % 2**32).get_state(legacy=False)
    generator.state = seeded
    return generator


def _drawn(generator: np.random.MT19937, first: int, end: int, n: int) -> NDArray[np.int64]:
    """The places with which steps [first, end) of a shuffle of n swap theirs."""
    steps = np.arange(first, end)
    return steps + generator.random_raw(end - first).astype(np.int64) % (n - steps)


def _undo(labels: NDArray[np.uint8], first: int, others: NDArray[np.int64]) -> None:
    """Swap labels[first + k] with labels[others[k]] for k from the last to 0, all at once.

    Step k takes what stands at others[k] and leaves its own label there. So it gets the label of
    the next later step that swaps with the same place, else what stood there before; and where that
    is the place of a step of these, what that step has got.
    """
    end = first + len(others)
    own = labels[first:end].copy()
    got, known = own.copy(), np.ones(len(others), dtype=np.bool_)
    order = np.argsort(others, kind="stable")
    place = others[order]
    same = place[1:] == place[:-1]
    got[order[:-1][same]] = own[order[1:][same]]
    last = order[np.append(~same, True)]  # the first to be undone at its place
    outside = others[last] >= end
    got[last[outside]] = labels[others[last[outside]]]
    waiting = last[~outside & (others[last] != last + first)]
    known[waiting] = False
    while len(waiting):
        source = others[waiting] - first
        ready = known[source]
        got[waiting[ready]] = got[source[ready]]
        known[waiting[ready]] = True
        waiting = waiting[~ready]
    labels[first:end] = got
    lowest = np.append(True, ~same)
    labels[place[lowest]] = own[order[lowest]]
