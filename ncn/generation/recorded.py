"""One token more on a GPU: the model's pass, recorded once as a CUDA graph and played back.

At one token a pass is some hundred short operators, and to launch them one by one takes the host
many times as long as they run. A graph is launched as a whole. It holds addresses, not values: the
tokens, their place and what the control network carries lie in memory of their own that is filled
before each play, keys and values where the cache has them. Attention reads the room of the whole
context, and what is yet empty of it counts for nothing.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from kernels.dispatch import Backend
from ncn.control.salience import SalienceState, Tonic
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.model import LanguageModel
from ncn.model.blocks import Cache, KeyValues
from ncn.settings import Salience

Told = TypeVar("Told", Tonic, Conditions)

WARM_UPS = 2  # passes before one is recorded: libraries make their plans in the first


def suits_recording(model: LanguageModel) -> bool:
    """Whether a pass of `model` can be recorded: on a GPU, with nothing that the host waits for."""
    control = model.config.control
    return (
        model.embedding.weight.device.type == "cuda"
        and model.skip is None  # whose tokens the host has to know
        and not (control is not None and control.attention_entropy)  # of the filled part alone
    )


class WholeRoom(KeyValues):
    """The keys and values of a layer, in the same memory, to be read by a pass for any place."""

    def __init__(self, layer: KeyValues, place: Tensor) -> None:
        self.keys, self.values, self.positions = layer.keys, layer.values, layer.positions
        self.length, self._place = layer.length, place
        for each in (layer.keys, layer.values):  # 0 times what lay there before may be NaN
            each[:, :, layer.length :].zero_()

    def extend(self, k: Tensor, v: Tensor, backend: Backend) -> tuple[Tensor, Tensor]:
        """Put k and v [B, H, 1, K] in their place; returns all of the room."""
        self.keys.index_copy_(2, self._place, k)
        self.values.index_copy_(2, self._place, v)
        self.mask = (self.positions <= self._place)[None, None, None]
        return self.keys, self.values


class Recorded:
    """Reads one token of each of B texts at a time into a cache.

    On a CPU, which records nothing, it computes the same.

    Args:
        model: one that `suits_recording`, in evaluation mode. Its weights are read where they lie.
        cache: of B rows, as the model makes it, with some text in it.
        batch: B.
    """

    def __init__(self, model: LanguageModel, cache: Cache, batch: int) -> None:
        self._model, self._cache = model, cache
        device = model.embedding.weight.device
        self._tokens = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._own = copy.copy(cache)  # of the pass that is recorded
        self._own.place = self._place
        self._own.layers = [WholeRoom(each, self._place) for each in cache.layers]
        self._tonic, self._told = Tonic(), NO_CONDITIONS
        self._play: Callable[[], Tensor] | None = None
        self._suits: object = None  # what the recorded pass is one for

    def next_logits(
        self, tokens: Tensor, salience: Salience | None, conditions: Conditions
    ) -> Tensor:
        """The logits [B, V] after `tokens` [B, 1], which continue the cache's texts.

        They are overwritten at the next token.
        """
        cache = self._cache
        suits = (salience, _shapes(cache.tonic), _shapes(conditions))
        if suits != self._suits:
            self._play, self._suits = None, suits
            self._tonic, self._told = _copied(cache.tonic), _copied(conditions)
        else:
            _fill(self._tonic, cache.tonic)
            _fill(self._told, conditions)
        self._tokens.copy_(tokens)
        self._place.fill_(cache.length)
        if self._play is None:
            self._play = self._recorded(salience)
        logits = self._play()
        cache.tonic = replace(self._tonic)
        for layer in cache.layers:
            layer.length += 1
        return logits

    def _recorded(self, salience: Salience | None) -> Callable[[], Tensor]:
        """Plays the pass over what lies in memory, and leaves there what the next one needs."""

        def computed() -> Tensor:
            self._own.tonic = replace(self._tonic)
            return self._model.next_logits(self._tokens, salience, self._own, self._told)

        def step() -> Tensor:
            logits = computed()
            _fill(self._tonic, self._own.tonic)
            return logits

        if self._place.device.type == "cpu":
            return step
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())  # which fills what the passes read
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):  # they write the same keys, and leave nothing else
                computed()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = step()

        def play() -> Tensor:
            graph.replay()
            return logits

        return play


def _tensors(told: Tonic | Conditions) -> list[Tensor | None]:
    """All that is told, in the order of its fields."""
    flat: list[Tensor | None] = []
    for each in vars(told).values():
        flat += each if isinstance(each, tuple) else [each]
    return flat


def _shapes(told: Tonic | Conditions) -> list[torch.Size | None]:
    return [None if each is None else each.shape for each in _tensors(told)]


def _copied(told: Told) -> Told:
    """The same in memory of its own."""
    made: dict[str, Any] = {}
    for name, each in vars(told).items():
        if isinstance(each, SalienceState):
            made[name] = SalienceState(*map(torch.clone, each))
        else:
            made[name] = None if each is None else each.clone()
    return type(told)(**made)


def _fill(memory: Tonic | Conditions, told: Tonic | Conditions) -> None:
    """Put what is told, of the same shapes, into the memory."""
    for place, each in zip(_tensors(memory), _tensors(told), strict=True):
        if place is not None and each is not None and place is not each:
            place.copy_(each)
