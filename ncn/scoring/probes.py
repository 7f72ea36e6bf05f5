"""Claims about a trained model that can be measured on it: cost, caches, gradients, fp16.

Each probe changes the signals from outside, by a hook on the control network, so that it measures
the model as it is trained and not a copy of it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ncn.control.outputs import ControlOutput
from ncn.generation.decoding import generation_salience
from ncn.model import LanguageModel, parameter_count
from ncn.model.flops import flops_per_token
from ncn.model.inputs import AnyRows, split_rows
from ncn.statistics.frequency import common_types

Signals = dict[str, Tensor]

# The published clamp is at 4: values below it, at it, and well above.
FORCED_PRECISIONS = (1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
FP16_LARGEST = 65504.0
FEW_ROWS = 2  # of what takes long: seconds on a CPU
CACHED_TOKENS = 32  # read one at a time from the cache, the rest of the row at once
BRANCHES = ("attention", "feed_forward")  # of a block: what the gain scales
GAIN_DOSES = (0.0, 0.25, 0.5)  # what a gain is multiplied by


def probe(model: LanguageModel, rows: AnyRows) -> dict[str, Any]:
    """All that holds for this model: `cache`, and with a control network what it does.

    Returns:
        cache: see `cached_difference`. cost: see `control_cost`. gradient_by_gain, half_precision,
        gate_closed: see there. The last four only where the model has what they measure.

    Args:
        model: in evaluation mode.
        rows: [N, T + 1], of the validation part.
    """
    control = None if model.control is None else model.config.control
    measured: dict[str, Any] = {"cache": cached_difference(model, rows)}
    if control is not None:
        measured["cost"] = control_cost(model)
        settable = [] if control.by_layer else control.signals
        if "gain" in settable:
            measured["gradient_by_gain"] = gradient_by_gain(model, rows)
        if "precision" in settable:
            measured["half_precision"] = half_precision(model, rows)
        if "ffn_gate" in settable:
            measured["gate_closed"] = gate_closed(model, rows)
    return measured


def control_cost(model: LanguageModel) -> dict[str, float]:
    """Parameters and FLOPs a token of the control network, and their shares of the whole model."""
    plain = model.config.model_copy(update={"control": None})
    whole = flops_per_token(model.config)
    flops = whole - flops_per_token(plain)
    total = parameter_count(model.config)
    parameters = total - parameter_count(plain)
    return {
        "parameters": parameters,
        "parameter_share": parameters / total,
        "flops_per_token": flops,
        "flop_share": flops / whole,
    }


@torch.inference_mode()
def cached_difference(model: LanguageModel, rows: AnyRows) -> dict[str, Any]:
    """Largest difference of a logit when the end of each row is read token by token.

    Two parts of it. The caches: the logits after each of the last CACHED_TOKENS prefixes from the
    caches, against those of one pass over the whole row in the same mode; rounding, 1e-5 of the
    logits' size, where the caches are right. The salience: that pass against one in the mode that
    the model was trained in; 0 for a model that generates the function it was trained to be.

    Returns:
        difference, salience_difference; largest_logit, the scale; salience, the mode in which the
        model generates (null: none).
    """
    device = next(model.parameters()).device
    tokens, _, conditions = split_rows(rows, device)
    trained = model(tokens, conditions=conditions)
    salience = generation_salience(model, None)
    whole = model(tokens, salience, conditions=conditions)
    cache = model.make_cache(len(tokens))
    start = max(1, tokens.shape[1] - CACHED_TOKENS)
    difference = 0.0
    for end in range(start, tokens.shape[1] + 1):
        logits = model.next_logits(tokens[:, cache.length : end], salience, cache, conditions)
        difference = max(difference, (logits - whole[:, end - 1]).abs().max().item())
    return {
        "difference": difference,
        "salience_difference": (whole - trained)[:, start - 1 :].abs().max().item(),
        "largest_logit": trained.abs().max().item(),
        "salience": salience,
    }


def gradient_by_gain(model: LanguageModel, rows: AnyRows) -> dict[str, Any]:
    """How the gradient of each layer's branch weights answers when that layer's gain is scaled.

    The gradient is of the cross-entropy, to the weights of attention and feed-forward together.
    The rest of the model, the loss included, answers to the change.

    Returns:
        doses: what the gain is multiplied by. ratio: by layer and dose, the gradient's norm over
            that at the trained gain [L, doses]; null where there is no gradient to begin with.
    """
    tokens, targets, conditions = split_rows(rows[: 2 * FEW_ROWS], next(model.parameters()).device)
    n_layers = model.config.n_layers
    weights = [
        [
            parameter
            for name in BRANCHES
            for parameter in model.get_submodule(f"blocks.{layer}.{name}").parameters()
        ]
        for layer in range(n_layers)
    ]
    before = [
        _norm(torch.autograd.grad(model.loss(tokens, targets, conditions)[0], mine))
        for mine in weights
    ]

    def norm_at(layer: int, dose: float) -> float:
        factors = torch.ones(n_layers, device=tokens.device)
        factors[layer] = dose
        with signals_changed(model, lambda s: s | {"gain": s["gain"] * factors}):
            cross_entropy, _ = model.loss(tokens, targets, conditions)
        return _norm(torch.autograd.grad(cross_entropy, weights[layer]))

    return {
        "doses": list(GAIN_DOSES),
        "ratio": [
            [norm_at(layer, dose) / norm if norm > 0 else None for dose in GAIN_DOSES]
            for layer, norm in enumerate(before)
        ],
    }


def _norm(tensors: Sequence[Tensor]) -> float:
    """The Euclidean norm of several tensors together."""
    return float(torch.stack([t.double().square().sum() for t in tensors]).sum().sqrt())


def half_precision(model: LanguageModel, rows: AnyRows) -> list[dict[str, Any]]:
    """What fp16 does to loss and gradients when every query is scaled by a forced precision.

    A loss scale s multiplies every gradient, and the largest number of fp16 is 65504: gradients g
    stay finite up to s = 65504 / max |g|. g are those that fp16 autocast holds in fp16, of the
    output, weights and biases of every linear layer and of the output head. They are computed in
    fp32, since a CPU only imitates fp16: on trained models of the default size, the scale found is
    that of fp16 itself, or half of it, up to a precision of 16, and a quarter to an eighth at 64.
    It grows with the number of tokens, over which the loss is a mean.

    Returns:
        For each of FORCED_PRECISIONS: precision; loss, nats a token; loss_fp32 and loss_fp16, of
        the first FEW_ROWS, the latter under fp16 autocast (null where it is not finite);
        qkv_gradient, the norm of the gradient of all qkv weights; scale_log2, of the largest
        power-of-two loss scale at which all gradients are finite.
    """
    device = next(model.parameters()).device
    tokens, targets, conditions = split_rows(rows, device)
    few = split_rows(rows[:FEW_ROWS], device)
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    qkv = [
        parameter
        for layer in range(model.config.n_layers)
        for parameter in model.get_submodule(f"blocks.{layer}.attention.qkv").parameters()
    ]
    weights: list[Tensor] = [parameter for each in linears for parameter in each.parameters()]
    weights.append(model.embedding.weight)

    def forced(precision: float) -> Callable[[Signals], Signals]:
        return lambda signals: (
            signals | {"precision": torch.full_like(signals["precision"], precision)}
        )

    outputs: list[Tensor] = []

    def seen(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        outputs.append(output)

    def detached(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return output.detach()

    results = []
    for precision in FORCED_PRECISIONS:
        outputs.clear()
        with ExitStack() as hooks:
            hooks.enter_context(signals_changed(model, forced(precision)))
            with torch.inference_mode():
                high = model.loss(*few)[0].item()
                with torch.autocast(device.type, dtype=torch.float16):
                    low = model.loss(*few)[0].item()
            for linear in linears:
                hooks.callback(linear.register_forward_hook(seen).remove)
            # Of the tied embedding, autocast holds only what the output head gives in fp16.
            hooks.callback(model.embedding.register_forward_hook(detached).remove)
            loss, _ = model.loss(tokens, targets, conditions)
        # A control network that is frozen has no gradients.
        asked = [each for each in (*qkv, *outputs, *weights) if each.requires_grad]
        gradients = torch.autograd.grad(loss, asked, allow_unused=True)
        largest = max(g.abs().max().item() for g in gradients if g is not None)
        results.append(
            {
                "precision": precision,
                "loss": loss.item(),
                "loss_fp32": high,
                "loss_fp16": low if math.isfinite(low) else None,
                "qkv_gradient": _norm([g for g in gradients[: len(qkv)] if g is not None]),
                "scale_log2": math.floor(math.log2(FP16_LARGEST / largest)) if largest else None,
            }
        )
    return results


@torch.inference_mode()
def gate_closed(model: LanguageModel, rows: AnyRows) -> dict[str, Any]:
    """What it costs to close the feed-forward gate on common tokens, all layers or one.

    Common are the fewest types of token that make up half of what is read.

    Returns:
        share: of the positions that hold a common token. loss: nats a token at these positions.
            all: how much more the loss is there with every layer's gate at 0; layers: with one's.
    """
    tokens, targets, conditions = split_rows(rows, next(model.parameters()).device)
    counts = torch.bincount(tokens.flatten(), minlength=model.config.vocab_size)
    easy = torch.from_numpy(common_types(counts.cpu().numpy())).to(tokens.device)[tokens]  # [B, T]

    def loss_with(closed: Sequence[int]) -> float:
        layers = torch.zeros(model.config.n_layers, dtype=torch.bool, device=tokens.device)
        layers[list(closed)] = True

        def change(signals: Signals) -> Signals:
            off = easy[..., None] & layers
            return signals | {"ffn_gate": signals["ffn_gate"].masked_fill(off, 0.0)}

        with signals_changed(model, change):
            losses = model.token_losses(tokens, targets, conditions=conditions)
        return losses[easy].mean().item()

    whole = loss_with([])
    every = range(model.config.n_layers)
    return {
        "share": easy.float().mean().item(),
        "loss": whole,
        "all": loss_with(every) - whole,
        "layers": [loss_with([layer]) - whole for layer in every],
    }


@contextmanager
def signals_changed(model: LanguageModel, change: Callable[[Signals], Signals]) -> Iterator[None]:
    """While the block runs, the model is modulated by `change` of its signals."""
    assert model.control is not None

    def changed(_module: nn.Module, _inputs: object, output: ControlOutput) -> ControlOutput:
        return output._replace(signals=change(output.signals))

    hook = model.control.register_forward_hook(changed)
    try:
        yield
    finally:
        hook.remove()
