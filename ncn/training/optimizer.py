"""AdamW over every trained parameter, and its learning-rate schedule."""

import math
from inspect import unwrap

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from ncn.settings import Train
from ncn.settings.parameters import factor_of


class Adam(AdamW):
    """AdamW without the wrappers that keep torch's compiler out of its bookkeeping.

    Nothing compiles it here, and their first call loads that compiler, in 4 seconds.
    """

    step = torch.no_grad()(unwrap(AdamW.step))
    add_param_group = unwrap(AdamW.add_param_group)
    zero_grad = unwrap(AdamW.zero_grad)
    state_dict = unwrap(AdamW.state_dict)
    load_state_dict = unwrap(AdamW.load_state_dict)


def make_optimizer(model: nn.Module, train: Train) -> AdamW:
    """AdamW over the trainable parameters, each in exactly one group.

    `decay: all` decays everything, as the published code does; `matrices` spares biases, norms
    and other vectors. A frozen control network is in no group, so nothing decays it.

    A group's `lr_scale` is its factor of `train.lr_scale`, for `set_learning_rate`. AdamW decays by
    lr * weight_decay, so the factor slows the decay of a group as it slows its steps.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = train.decay == "all" or parameter.ndim >= 2
            weight_decay = train.weight_decay if decayed else 0.0
            key = (weight_decay, factor_of(name, train.lr_scale))
            groups.setdefault(key, []).append(parameter)
    beta_1, beta_2 = train.betas
    return Adam(
        [
            {"params": members, "weight_decay": weight_decay, "lr_scale": lr_scale}
            for (weight_decay, lr_scale), members in groups.items()
        ],
        lr=train.lr,
        betas=(beta_1, beta_2),
        fused=True,
    )


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give each group `lr` times its factor, for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


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
