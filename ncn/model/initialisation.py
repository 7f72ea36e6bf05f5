"""Where every parameter starts."""

import torch

from ncn.control.outputs import start_at_declared_signals
from ncn.layers import named_seed
from ncn.model.language_model import LanguageModel
from ncn.model.rivals import static_start

POOLING_INPUTS = {f"control.pooling.{part}_proj.weight" for part in ("q", "k", "v")}


@torch.no_grad()
def initialise(model: LanguageModel, seed: int) -> None:
    """Set every parameter. Runs last, so that nothing it sets is overwritten.

    | parameter                       | distribution                                     |
    |---------------------------------|--------------------------------------------------|
    | embeddings (tokens, positions,  |                                                  |
    | tasks), linear weights          | N(0, 0.02)                                       |
    | entropy weight, basis of the    |                                                  |
    | norms' gains and biases         | N(0, 0.02)                                       |
    | salience query                  | `ncn.salience_start`: published N(0, 1);         |
    |                                 | small N(0, 0.02)                                 |
    | query, key, value projection of | published Xavier uniform, of the three as one    |
    | the salience pooling            | matrix, +-sqrt(6 / 4D); small N(0, 0.02)         |
    | norm weights                    | 1                                                |
    | static scales of a rival        | rezero 0, temperature 1, layerscale 0.1 (less    |
    |                                 | from 19 layers on, see `ncn.model.rivals`)       |
    | biases                          | 0                                                |
    | output bias of the controller   | `ncn.init`: identity `start` of each signal (0,  |
    |                                 | 0.525, 3 for gain, precision, ffn_gate); zero 0  |

    Each parameter draws from its own stream, named by seed and parameter: what the arms share
    starts equal, since adding a control network moves no other draw.
    """
    control = model.config.control
    published_pooling = control is not None and control.salience_start == "published"
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.fill_(1.0)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            stream = torch.Generator().manual_seed(named_seed(seed, name))
            if published_pooling and name == "control.pooling.query":
                parameter.normal_(0.0, 1.0, generator=stream)
            elif published_pooling and name in POOLING_INPUTS:
                bound = (6 / (4 * parameter.shape[1])) ** 0.5
                parameter.uniform_(-bound, bound, generator=stream)
            else:
                parameter.normal_(0.0, 0.02, generator=stream)
    for block in model.blocks:
        if (scale := getattr(block.modulator, "scale", None)) is not None:
            scale.fill_(static_start(model.config))
    if model.control is not None and control is not None:
        start_at_declared_signals(model.control.output_bias, model.config)
        if control.frozen:
            model.freeze_control()
