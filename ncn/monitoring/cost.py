"""What a training run will take, measured on a few sequences before it starts."""

import math
import time
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kernels.dispatch import resolve
from kernels.linear_cross_entropy import logits_at_once
from ncn.corpus.tokenizer import GPT2_VOCABULARY
from ncn.model import LanguageModel, model_config, parameter_count
from ncn.model.device import describe, mixed_precision, pick_device
from ncn.model.language_model import RunBlock, run_as_it_is
from ncn.settings import ModelConfig, Params, Train
from ncn.training.loop import count_steps
from ncn.training.processes import processes

PROBE_SECONDS = 0.25  # that a pass takes, unless a micro-batch is done sooner
# Of stories, by the size of the vocabulary: trained ones of 400 and 2,048, measured here; GPT-2's:
# TinyStoriesV2's 2,227,753,162 bytes in about 547,726,000 tokens.
BYTES_PER_TOKEN = {400: 1.97, 2048: 3.8, GPT2_VOCABULARY: 4.067}
LARGE = 50_000_000  # parameters from which on a model is not built for an estimate
STORY_BYTES = 1020  # of the builtin source, on average
RECOMPUTED = partial(checkpoint, use_reentrant=False)


class Cost(NamedTuple):
    """An estimate of one training run."""

    steps: int
    tokens: int
    tokens_per_second: float  # of all processes
    peak_bytes: int  # of one process
    settings: str = ""  # what the figures speak of, where that is not plain

    @property
    def seconds(self) -> float:
        """Training time; start-up and saving come on top."""
        return self.tokens / self.tokens_per_second

    def __str__(self) -> str:
        return (
            f"{self.steps:,} steps, {self.tokens / 1e6:,.1f} M tokens"
            f" at {self.tokens_per_second:,.0f} a second:"
            f" about {timedelta(seconds=round(self.seconds))}"
            f" and {self.peak_bytes / 2**30:.1f} GiB of memory{self.settings}"
        )


class _Probe(NamedTuple):
    """What a few passes show of a model."""

    seconds: float  # of a sequence, forward and back
    weight_bytes: float
    kept_bytes: float  # of the backward pass of a micro-batch

    def deeper(self, other: "_Probe", layers: int) -> "_Probe":
        """This model with `layers` more, where `other` has one more: each adds the same."""
        return _Probe(*(a + layers * max(0.0, b - a) for a, b in zip(self, other, strict=True)))


def training_cost(model: LanguageModel, train: Train, n_rows: int) -> Cost:
    """Estimate the training of `model` on n_rows sequences by a few passes over random tokens.

    Memory is the weights, gradients and two moments, plus what the backward pass of a micro-batch
    takes, plus the logits held at once. The passes are not compiled. The model is left as it was,
    without gradients. One of several ranks measures while the others wait.

    Raises:
        InputError: this machine lacks the kernels that `train` asks for.
    """
    device = next(model.parameters()).device
    return _cost(_probe(model, train), model.config, train, n_rows, device)


def large_cost(config: ModelConfig, train: Train, n_rows: int, device: torch.device) -> Cost:
    """`training_cost` of a model that is not built: measured on its first layers, one and two.

    Raises:
        InputError: as `training_cost`.
    """
    one, two = (
        _probe(LanguageModel(config.model_copy(update={"n_layers": n})).to(device), train)
        for n in (1, 2)
    )
    return _cost(one.deeper(two, config.n_layers - 1), config, train, n_rows, device)


def _probe(model: LanguageModel, train: Train) -> _Probe:
    model.use_kernels(train.kernels)
    run_block = RECOMPUTED if train.checkpointing else run_as_it_is
    length, micro = model.config.context_length, _sequences(train)
    # The first pass, over half a sequence, waits for code to be loaded and for memory; what the
    # second keeps beyond it is kept for each token, the rest, as the head's gradient, once.
    half, whole = (_observed(model, train, tokens, run_block) for tokens in (length // 2, length))
    seconds, sequences = whole.seconds, 1
    while seconds < PROBE_SECONDS and sequences < micro:
        sequences = min(math.ceil(sequences * PROBE_SECONDS / seconds) + 1, micro)
        seconds = _pass(model, train, (sequences, length), run_block)
    tokens = micro * length
    kept = half.upto(whole, tokens)
    if train.checkpointing:
        half, whole = (
            _observed(model, train, each, run_as_it_is) for each in (length // 2, length)
        )
    # On the way back a layer's gradients take about what the layer does; recomputed, it is there
    # once more itself.
    layers = 2 if train.checkpointing else 1
    kept_bytes = kept.bytes + layers * half.upto(whole, tokens).layer_bytes
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return _Probe(seconds / sequences, weights, kept_bytes)


def _cost(
    probe: _Probe, config: ModelConfig, train: Train, n_rows: int, device: torch.device
) -> Cost:
    steps = count_steps(n_rows, train)
    batch = train.micro_batch_size * train.grad_accum_steps
    tokens = _sequences(train) * config.context_length
    logits = logits_at_once(tokens, config.vocab_size, resolve(train.kernels, device))
    ranks = _ranks(train)
    # Sharded: a part of each of the four, beside the whole model that is scored and saved.
    copies = 1 + 4 / ranks if train.sharding == "fsdp" else 4
    notes = " a process" if ranks > 1 else ""
    return Cost(
        steps=steps,
        tokens=steps * batch * config.context_length,
        tokens_per_second=processes() * config.context_length / probe.seconds,
        peak_bytes=round(copies * probe.weight_bytes + probe.kept_bytes) + 4 * logits,
        settings=notes + (", before compilation" if train.compile else ""),
    )


def _ranks(train: Train) -> int:
    """Processes: before they are started, and of a torchrun's own."""
    return max(train.processes, processes())


def _sequences(train: Train) -> int:
    """Of a micro-batch of one process."""
    batch = train.micro_batch_size * train.grad_accum_steps
    return min(train.micro_batch_size, max(1, batch // _ranks(train)))


class _Observed(NamedTuple):
    """A pass forward and back over some tokens."""

    tokens: int
    seconds: float
    bytes: float  # that autograd kept, weights not counted
    layer_bytes: float  # of them a layer's, on average

    def upto(self, longer: "_Observed", tokens: int) -> "_Observed":
        """A pass over so many tokens: each keeps what the `longer` one's further tokens do."""
        steps = (tokens - self.tokens) / (longer.tokens - self.tokens)
        return _Observed(
            tokens, *(a + steps * (b - a) for a, b in zip(self[1:], longer[1:], strict=True))
        )


def _observed(model: LanguageModel, train: Train, tokens: int, run_block: RunBlock) -> _Observed:
    """A pass over one text of so many tokens, and what autograd keeps of it."""
    saved: dict[int, int] = {}
    of_layers = 0
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def layer(block: nn.Module, *inputs: Any, **signals: Any) -> tuple[Tensor, Tensor | None]:
        nonlocal of_layers
        before = sum(saved.values())
        made = run_block(block, *inputs, **signals)
        of_layers += sum(saved.values()) - before
        return made

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        seconds = _pass(model, train, (1, tokens), layer)
    return _Observed(tokens, seconds, sum(saved.values()), of_layers / model.config.n_layers)


def _pass(model: LanguageModel, train: Train, shape: tuple[int, int], run_block: RunBlock) -> float:
    """Seconds of one forward and backward pass over random tokens of `shape` [B, T]."""
    device = next(model.parameters()).device
    tokens = torch.randint(
        model.config.vocab_size, shape, generator=torch.Generator().manual_seed(0)
    ).to(device)
    start = time.perf_counter()
    with mixed_precision(device, train.precision):
        loss, _ = model.loss(tokens, tokens, run_block=run_block)
    loss.backward()
    model.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def experiment_cost(params: Params) -> str:
    """One line an arm: what training it will take, before any data is there."""
    vocabulary = (
        GPT2_VOCABULARY if params.tokenizer.vocabulary != "trained" else params.tokenizer.vocab_size
    )
    match params.data.source:
        case "tinystories-v2":
            size = sum(file.first_bytes or file.bytes for file in params.data.hub.files)
        case "builtin":
            size = params.data.stories * STORY_BYTES
        case _:
            return "training: the size of the text is not known before it is fetched"
    sizes = np.log([*BYTES_PER_TOKEN])
    bytes_per_token = np.interp(np.log(vocabulary), sizes, [*BYTES_PER_TOKEN.values()])
    share = 1 - params.split.validation - params.split.tuning
    n_rows = int(size / bytes_per_token / params.model.context_length * share)
    device = pick_device()
    lines = [f"training, estimated on {describe(device)}, for each of {len(params.seeds)} seeds:"]
    for arm in params.arms:
        config, train = model_config(params, arm, vocabulary), params.train_of(arm)
        cost = (
            large_cost(config, train, n_rows, device)
            if parameter_count(config) > LARGE
            else training_cost(LanguageModel(config).to(device), train, n_rows)
        )
        lines.append(f"  {arm}: {cost}")
    return "\n".join(lines)
