"""AdamW over every trained parameter, and its learning-rate schedule."""

import math

from torch import nn
from torch.optim import AdamW

from ncn.settings import Train


def make_optimizer(model: nn.Module, train: Train) -> AdamW:
    """AdamW over the trainable parameters, each in exactly one group.

    `decay: all` decays everything, as the published code does; `matrices` spares biases, norms
    and other vectors. A frozen control network is in no group, so nothing decays it.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in trainable if train.decay == "all" or p.ndim >= 2]
    spared = [p for p in trainable if train.decay == "matrices" and p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": train.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    beta_1, beta_2 = train.betas
    return AdamW(
        [group for group in groups if group["params"]],
        lr=train.lr,
        betas=(beta_1, beta_2),
        fused=True,
    )


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
