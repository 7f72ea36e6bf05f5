"""AdamW over every trained parameter, and its learning-rate schedule."""

import math
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from inspect import unwrap

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from ncn.corpus.conditions import Conditions
from ncn.model import LanguageModel
from ncn.settings import Train

IN_A_LAYER = re.compile(r"blocks\.(\d+)\.")


class Adam(AdamW):
    """AdamW without the wrappers that keep torch's compiler out of its bookkeeping.

    Nothing compiles it here, and their first call loads that compiler, in 4 seconds.
    """

    step = torch.no_grad()(unwrap(AdamW.step))
    add_param_group = unwrap(AdamW.add_param_group)
    zero_grad = unwrap(AdamW.zero_grad)
    state_dict = unwrap(AdamW.state_dict)
    load_state_dict = unwrap(AdamW.load_state_dict)


def make_optimizer(model: LanguageModel, train: Train) -> AdamW:
    """AdamW over the trainable parameters, each in exactly one group.

    `decay: all` decays everything, as the published code does; `matrices` spares biases, norms
    and other vectors. A frozen control network is in no group, so nothing decays it.

    A group's `lr_scale` is its factor of `train.lr_scale`, for `set_learning_rate`. AdamW decays by
    lr * weight_decay, so the factor slows the decay of a group as it slows its steps.

    With `ncn.plasticity` a layer has groups of its own, and its number is their `layer`.
    """
    groups: dict[tuple[float, float, int | None], list[Tensor]] = {}
    apart = is_plastic(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = train.decay == "all" or parameter.ndim >= 2
            weight_decay = train.weight_decay if decayed else 0.0
            found = IN_A_LAYER.match(name) if apart else None
            layer = None if found is None else int(found[1])
            key = (weight_decay, factor_of(name, train.lr_scale), layer)
            groups.setdefault(key, []).append(parameter)
    beta_1, beta_2 = train.betas
    return Adam(
        [
            {"params": members, "weight_decay": weight_decay, "lr_scale": lr_scale, "layer": layer}
            for (weight_decay, lr_scale, layer), members in groups.items()
        ],
        lr=train.lr,
        betas=(beta_1, beta_2),
        fused=True,
    )


def set_learning_rate(optimizer: Optimizer, lr: float, by_layer: Sequence[float] = ()) -> None:
    """Give each group `lr` times its factor, for the next step.

    Args:
        optimizer: of `make_optimizer`.
        lr: of the schedule.
        by_layer: a further factor for the groups of each layer, see `plasticity`.
    """
    for group in optimizer.param_groups:
        layer = group["layer"]
        group["lr"] = lr * group["lr_scale"] * (1.0 if layer is None else by_layer[layer])


def belongs(name: str, part: str) -> bool:
    """Whether the parameter `name` is in `part`."""
    words, wanted = name.split("."), part.split(".")
    return len(words) >= len(wanted) and all(map(fnmatchcase, words, wanted))


def factor_of(name: str, factors: Mapping[str, float]) -> float:
    """The factor of the parameter `name`, 1 where none of the parts is its own.

    Of several parts the one with the most words counts, then the one with the fewest `*`, then the
    last: `blocks.0` before `blocks.*`, `blocks.*.attention` before both.
    """
    parts = [part for part in factors if belongs(name, part)]
    closest = sorted(parts, key=lambda part: (part.count(".") + 1, -part.count("*")))
    return factors[closest[-1]] if closest else 1.0


def is_plastic(model: LanguageModel) -> bool:
    """Whether the model's signals set the learning rates of its layers."""
    control = model.config.control
    return model.control is not None and control is not None and control.plasticity != "none"


def plasticity(model: LanguageModel, tokens: Tensor, conditions: Conditions) -> Tensor:
    """What the learning rate and decay of each layer are multiplied by after a batch, [L].

    The mean of the signal that `ncn.plasticity` names, over tokens [B, T] (preprint 8, further
    targets: "plasticity"). In AdamW a layer's steps and decay both scale with its learning rate.
    The signal is read after the backward pass: no gradient reaches it from here.
    """
    assert model.config.control is not None
    signal = model.signals(tokens, conditions=conditions)[model.config.control.plasticity]
    return signal.transpose(0, 2).flatten(1).double().mean(1)


def learning_rate(step: int, max_steps: int, train: Train) -> float:
    """The learning rate of `step`, counted from 1: linear warm-up, then the schedule to 0.

    With 6e-4, 100 warm-up and 15,879 steps the cosine gives the published log's figures:
    1.2e-4 at step 20, 5.99e-4 at 400, 2.15e-9 at 15,860.
    """
    if step < train.warmup_steps:
        return train.lr * step / train.warmup_steps
    if train.schedule == "constant":
        return train.lr
    done = (step - train.warmup_steps) / max(1, max_steps - train.warmup_steps)
    if train.schedule == "linear":
        return train.lr * (1 - done)
    return train.lr * 0.5 * (1 + math.cos(math.pi * done))
