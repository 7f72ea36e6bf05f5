"""What a training run will take, measured on a few sequences before it starts."""

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
from ncn.model import LanguageModel, build_model
from ncn.model.device import describe, mixed_precision, pick_device
from ncn.model.language_model import RunBlock, run_as_it_is
from ncn.settings import Params, Train
from ncn.training.loop import count_steps
from ncn.training.processes import processes

PROBE_SECONDS = 0.5
# Of stories, by the size of the vocabulary: trained ones of 400 and 2,048, measured here; GPT-2's:
# TinyStoriesV2's 2,227,753,162 bytes in about 547,726,000 tokens.
BYTES_PER_TOKEN = {400: 1.97, 2048: 3.8, GPT2_VOCABULARY: 4.067}
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


def training_cost(model: LanguageModel, train: Train, n_rows: int) -> Cost:
    """Estimate the training of `model` on n_rows sequences by a few passes over random tokens.

    Memory is the weights, gradients and two moments, plus what the backward pass of a micro-batch
    takes, plus the logits held at once. The passes are not compiled. The model is left as it was,
    without gradients. One of several ranks measures while the others wait.

    Raises:
        InputError: this machine lacks the kernels that `train` asks for.
    """
    model.use_kernels(train.kernels)
    run_block = RECOMPUTED if train.checkpointing else run_as_it_is
    length, vocab_size = model.config.context_length, model.config.vocab_size
    steps = count_steps(n_rows, train)
    batch = train.micro_batch_size * train.grad_accum_steps
    ranks = max(train.processes, processes())  # before they are started, and of a torchrun's own
    micro = min(train.micro_batch_size, max(1, batch // ranks))  # of one process
    sequences = 1
    _pass(model, train, sequences, run_block)  # the first waits for code to be loaded and memory
    seconds = _pass(model, train, sequences, run_block)
    while seconds < PROBE_SECONDS and sequences < micro:
        sequences = min(2 * sequences, micro)
        seconds = _pass(model, train, sequences, run_block)
    logits = logits_at_once(
        micro * length, vocab_size, resolve(train.kernels, model.embedding.weight.device)
    )
    notes = " a process" if ranks > 1 else ""
    return Cost(
        steps=steps,
        tokens=steps * batch * length,
        tokens_per_second=processes() * sequences * length / seconds,
        peak_bytes=_held_bytes(model, train, ranks) + _kept_bytes(model, train, micro) + 4 * logits,
        settings=notes + (", before compilation" if train.compile else ""),
    )


def _held_bytes(model: LanguageModel, train: Train, ranks: int) -> int:
    """Bytes of weights, gradients and two moments in one process of `ranks`."""
    weights = sum(parameter.nbytes for parameter in model.parameters())
    if train.sharding == "fsdp":  # a part of each, beside the whole model that is scored and saved
        return weights + 4 * weights // ranks
    return 4 * weights


def _kept_bytes(model: LanguageModel, train: Train, sequences: int) -> int:
    """Bytes that the backward pass of a micro-batch takes."""

    def kept(run_block: RunBlock) -> int:
        # What is kept for a second sequence is kept for each; the rest, as the gradient of the
        # output head, once.
        first, second = (_saved_bytes(model, train, n, run_block) for n in (1, 2))
        return first + (sequences - 1) * (second - first)

    whole = kept(run_as_it_is)
    layer = (whole - kept(_left_out)) // model.config.n_layers
    # On the way back, a layer's gradients take about what the layer does.
    return (kept(RECOMPUTED) + layer if train.checkpointing else whole) + layer


def _left_out(block: nn.Module, x: Tensor, **signals: Any) -> tuple[Tensor, None]:
    """No layer at all, to see what the others take."""
    return x, None


def _saved_bytes(model: LanguageModel, train: Train, sequences: int, run_block: RunBlock) -> int:
    """Bytes that autograd keeps of a forward pass over `sequences`, weights not counted."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _pass(model, train, sequences, run_block)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(size for place, size in saved.items() if place not in own)


def _pass(model: LanguageModel, train: Train, sequences: int, run_block: RunBlock) -> float:
    """Seconds of one forward and backward pass over random tokens."""
    device = next(model.parameters()).device
    shape = (sequences, model.config.context_length)
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
        model = build_model(params, arm, vocabulary).to(device)
        lines.append(f"  {arm}: {training_cost(model, params.train_of(arm), n_rows)}")
    return "\n".join(lines)
