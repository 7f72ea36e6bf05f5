"""What a forward pass costs, counted in floating-point operations a token.

A multiply-add counts as two. Only matrix products and the attention are counted: norms,
activations and the actuators are a few operations per element. Training costs three times a
forward pass (one for each of the two gradients of a product).
"""

from ncn.control.outputs import columns
from ncn.control.salience import CHUNK
from ncn.model.experts import router_flops
from ncn.model.norm_film import norm_film_flops
from ncn.model.rivals import modulator_flops
from ncn.settings import ControlSettings, ModelConfig


def flops_per_token(config: ModelConfig) -> int:
    """Forward FLOPs a token over a full context window, causal attention at its mean length."""
    width, length = config.d_model, config.context_length
    projections = 2 * 4 * width**2
    attention = 2 * 2 * width * (length + 1) // 2  # scores and values over (T + 1) / 2 positions
    feed_forward = 2 * 2 * width * config.d_ff
    head = 2 * width * config.vocab_size
    modulated = modulator_flops(config) + norm_film_flops(config) + router_flops(config)
    backbone = config.n_layers * (projections + attention + feed_forward + modulated) + head
    return backbone + (0 if config.control is None else _control(config, config.control))


def _control(config: ModelConfig, control: ControlSettings) -> int:
    width, length = config.d_model, config.context_length
    if control.controller == "static":
        return 0
    outputs = config.n_layers * columns(config)
    reads = config.n_layers if control.phasic == "layer" else 1  # by W_1
    reads += control.controller == "recurrent"  # by W_f
    controller = 2 * control.hidden * (reads * width + outputs)
    controller += 2 * width * len(control.sliders) // length  # one projection a sequence
    if control.attention_entropy:  # the scores again, of every layer but the last
        controller += (config.n_layers - 1) * 2 * width * (length + 1) // 2
    projected = 2 * 2 * width**2  # value and output projection of one vector
    match control.salience:
        case "none":
            return controller
        case "reactive":
            return controller + projected
        case "causal":
            scores = 2 * control.heads * width
            scan = 2 * (min(CHUNK, length) + 2) * width  # weights @ values, carried state
            return controller + projected + scores + scan
        case "global":  # one vector a sequence is projected
            pooling = 2 * 2 * control.heads * width
            return controller + pooling + projected // length
