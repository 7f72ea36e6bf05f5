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

from ncn.generation.decoding import generation_salience
from ncn.model import LanguageModel
from ncn.model.control import ControlOutput
from ncn.model.flops import flops_per_token
from ncn.model.inputs import AnyRows, split_rows

Signals = dict[str, Tensor]

# The published clamp is at 4: values below it, at it, and well above.
FORCED_PRECISIONS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
CACHED_TOKENS = 32  # read one at a time from the cache, the rest of the row at once
BRANCHES = ("attention", "feed_forward")  # of a block: what the gain scales
LOWERED = 0.9  # what a gain is multiplied by


def probe(model: LanguageModel, rows: AnyRows) -> dict[str, Any]:
    """All that holds for this model: `cache`, and with a control network what it does.

    Returns:
        cache: see `cached_difference`. cost: see `control_cost`. gradient_elasticity: see there.
        half_precision: see there. The last three only where the model has what they measure.

    Args:
        model: in evaluation mode.
        rows: [N, T + 1], of the validation part.
    """
    control = None if model.control is None else model.config.control
    measured: dict[str, Any] = {"cache": cached_difference(model, rows)}
    if control is not None:
        measured["cost"] = control_cost(model)
        # Where the signals see the attention entropy, each layer makes its own: none can be set.
        settable = [] if control.attention_entropy else control.signals
        if "gain" in settable:
            measured["gradient_elasticity"] = gradient_elasticity(model, rows)
        if "precision" in settable:
            measured["half_precision"] = half_precision(model, rows)
    return measured


def control_cost(model: LanguageModel) -> dict[str, float]:
    """Parameters and FLOPs a token of the control network, and their shares of the whole model."""
    assert model.control is not None
    parameters = sum(parameter.numel() for parameter in model.control.parameters())
    whole = flops_per_token(model.config)
    flops = whole - flops_per_token(model.config.model_copy(update={"control": None}))
    total = sum(parameter.numel() for parameter in model.parameters())
    return {
        "parameters": parameters,
        "parameter_share": parameters / total,
        "flops_per_token": flops,
        "flop_share": flops / whole,
    }


@torch.inference_mode()
def cached_difference(model: LanguageModel, rows: AnyRows) -> dict[str, Any]:
    """Largest difference of a logit when the end of each row is read token by token.

    The logits after each of the last CACHED_TOKENS prefixes, from the caches, against those of
    one pass over the whole row in the mode that the model was trained in. Rounding (1e-5 of the
    logits' size) for a model that generates the function it was trained to be.

    Returns:
        difference; largest_logit, the scale; salience, the mode of the cached pass (null: none).
    """
    device = next(model.parameters()).device
    tokens, _, conditions = split_rows(rows, device)
    whole = model(tokens, conditions=conditions)
    salience = generation_salience(model, None)
    cache = model.make_cache(len(tokens))
    start = max(1, tokens.shape[1] - CACHED_TOKENS)
    difference = 0.0
    for end in range(start, tokens.shape[1] + 1):
        logits = model.next_logits(tokens[:, cache.length : end], salience, cache, conditions)
        difference = max(difference, (logits - whole[:, end - 1]).abs().max().item())
    return {
        "difference": difference,
        "largest_logit": whole.abs().max().item(),
        "salience": salience,
    }


def gradient_elasticity(model: LanguageModel, rows: AnyRows) -> dict[str, list[float | None]]:
    """How the gradient of layer l's branches follows its gain g_l: d log |gradient| / d log g_l.

    The gradient is of the cross-entropy. An elasticity of 1 is in proportion, below 0 a lower gain
    lets more gradient through.

    Returns:
        direct: at the branches' outputs, which are scaled up as g_l is scaled down, so that the
            model computes what it did. The chain rule makes it 1.
        total: of the branches' weights when g_l alone is lowered, and the rest of the model, the
            loss included, answers to that. Null where there is no gradient at all.
    """
    tokens, targets, conditions = split_rows(rows, next(model.parameters()).device)

    def norms(layer: int, factor: float, compensated: bool) -> tuple[float, float]:
        """Of the gradient at the branches' outputs, and at their weights."""
        branches = [model.get_submodule(f"blocks.{layer}.{name}") for name in BRANCHES]
        outputs: list[Tensor] = []
        factors = torch.ones(model.config.n_layers, device=tokens.device)
        factors[layer] = factor

        def kept(_module: nn.Module, _inputs: object, output: Any) -> Any:
            branch, *more = output if isinstance(output, tuple) else (output,)
            outputs.append(branch / factor if compensated else branch)
            return (outputs[-1], *more) if more else outputs[-1]

        with ExitStack() as hooks:
            for branch in branches:
                hooks.callback(branch.register_forward_hook(kept).remove)
            hooks.enter_context(signals_changed(model, lambda s: s | {"gain": s["gain"] * factors}))
            cross_entropy, _ = model.loss(tokens, targets, conditions)
        weights = [parameter for branch in branches for parameter in branch.parameters()]
        gradients = torch.autograd.grad(cross_entropy, [*outputs, *weights])
        return _norm(gradients[: len(outputs)]), _norm(gradients[len(outputs) :])

    elasticities: dict[str, list[float | None]] = {"direct": [], "total": []}
    for layer in range(model.config.n_layers):
        outputs, weights = norms(layer, 1.0, compensated=False)
        direct, _ = norms(layer, LOWERED, compensated=True)
        _, total = norms(layer, LOWERED, compensated=False)
        for name, after, before in (("direct", direct, outputs), ("total", total, weights)):
            both = after > 0 and before > 0  # a gain of 0 lets no gradient through
            ratio = math.log(after / before) / math.log(LOWERED) if both else None
            elasticities[name].append(ratio)
    return elasticities


def _norm(tensors: Sequence[Tensor]) -> float:
    """The Euclidean norm of several tensors together."""
    return float(torch.stack([t.double().square().sum() for t in tensors]).sum().sqrt())


@torch.inference_mode()
def half_precision(model: LanguageModel, rows: AnyRows) -> list[dict[str, Any]]:
    """What fp16 does to the model when every query is scaled by a forced precision.

    Returns:
        For each of FORCED_PRECISIONS: precision; loss, in fp32, nats a token; loss_fp16, the same
        under fp16 autocast (null where it is not finite).
    """
    device = next(model.parameters()).device
    tokens, targets, conditions = split_rows(rows, device)

    def forced(precision: float) -> Callable[[Signals], Signals]:
        return lambda signals: (
            signals | {"precision": torch.full_like(signals["precision"], precision)}
        )

    results = []
    for precision in FORCED_PRECISIONS:
        with signals_changed(model, forced(precision)):
            loss = model.loss(tokens, targets, conditions)[0].item()
            with torch.autocast(device.type, dtype=torch.float16):
                low = model.loss(tokens, targets, conditions)[0]
        finite = bool(torch.isfinite(low))
        results.append(
            {"precision": precision, "loss": loss, "loss_fp16": low.item() if finite else None}
        )
    return results


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
