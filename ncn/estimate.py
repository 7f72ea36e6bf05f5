"""What a training run will take, measured on a few sequences before it starts."""

import time
from datetime import timedelta
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.dispatch import resolve
from kernels.linear_cross_entropy import logits_at_once
from ncn.config import Params, Train
from ncn.device import describe, mixed_precision, pick_device
from ncn.model import LanguageModel, build_model
from ncn.training import count_steps

PROBE_SECONDS = 0.5
# TinyStoriesV2 under GPT-2's vocabulary: 2,227,753,162 bytes in about 547,726,000 tokens.
BYTES_PER_TOKEN = 4.067
GPT2_VOCABULARY = 50_257
STORY_BYTES = 1020  # of the builtin source, on average


class Cost(NamedTuple):
    """An estimate of one training run."""

    steps: int
    tokens: int
    tokens_per_second: float
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """Training time; start-up and saving come on top."""
        return self.tokens / self.tokens_per_second

    def __str__(self) -> str:
        return (
            f"{self.steps:,} steps, {self.tokens / 1e6:,.1f} M tokens"
            f" at {self.tokens_per_second:,.0f} a second:"
            f" about {timedelta(seconds=round(self.seconds))}"
            f" and {self.peak_bytes / 2**30:.1f} GiB of memory"
        )


def training_cost(model: LanguageModel, train: Train, n_rows: int) -> Cost:
    """Estimate the training of `model` on n_rows sequences by a few passes over random tokens.

    Memory is the weights, gradients and two moments, plus what autograd keeps for a micro-batch,
    plus the logits held at once. The model is left as it was, without gradients.

    Raises:
        InputError: this machine lacks the kernels that `train` asks for.
    """
    model.use_kernels(train.kernels)
    length, vocab_size = model.config.context_length, model.config.vocab_size
    steps = count_steps(n_rows, train)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    # What is kept for a second sequence is kept for each; the rest, as the gradient of the output
    # head, once.
    first, second = (_kept_bytes(model, train, sequences) for sequences in (1, 2))
    activations = second - first
    rows = train.micro_batch_size * length
    backend = resolve(train.kernels, model.embedding.weight.device)
    sequences = 1
    seconds = _pass(model, train, sequences)
    while seconds < PROBE_SECONDS and sequences < train.micro_batch_size:
        sequences = min(2 * sequences, train.micro_batch_size)
        seconds = _pass(model, train, sequences)
    return Cost(
        steps=steps,
        tokens=steps * train.micro_batch_size * train.grad_accum_steps * length,
        tokens_per_second=sequences * length / seconds,
        peak_bytes=4 * weights
        + (first - activations)
        + train.micro_batch_size * activations
        + 4 * logits_at_once(rows, vocab_size, backend),
    )


def _kept_bytes(model: LanguageModel, train: Train, sequences: int) -> int:
    """Bytes that autograd keeps from a forward pass for its backward pass, weights not counted."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _pass(model, train, sequences)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(size for place, size in kept.items() if place not in own)


def _pass(model: LanguageModel, train: Train, sequences: int) -> float:
    """Seconds of one forward and backward pass over random tokens."""
    device = next(model.parameters()).device
    shape = (sequences, model.config.context_length)
    tokens = torch.randint(
        model.config.vocab_size, shape, generator=torch.Generator().manual_seed(0)
    ).to(device)
    start = time.perf_counter()
    with mixed_precision(device, train.precision):
        loss, _ = model.loss(tokens, tokens)
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
            size = sum(file.bytes for file in params.data.hub.files)
        case "builtin":
            size = params.data.stories * STORY_BYTES
        case _:
            return "training: the size of the text is not known before it is fetched"
    n_rows = int(
        size / BYTES_PER_TOKEN / params.model.context_length * (1 - params.split.validation)
    )
    device = pick_device()
    lines = [f"training, estimated on {describe(device)}, for each of {len(params.seeds)} seeds:"]
    for arm in params.arms:
        model = build_model(params, arm, vocabulary).to(device)
        lines.append(f"  {arm}: {training_cost(model, params.train, n_rows)}")
    return "\n".join(lines)
