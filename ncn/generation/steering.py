"""Does a slider steer? What generated text measures, against where the slider stood.

Rows are continued without a slider, and with one at each of several values v, from the same draws.
m is what the slider measures of a continuation, in the units that the slider has (standard
deviations of the training part, `ncn.model.inputs`), and of a row

    slope = sum over v of v (m_v - m_without) / sum over v of v^2

so that 1 is a text that moves as far as the slider, and 0 one that does not hear of it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ncn.control.network import ControlNetwork
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.corpus.tokenizer import Tokenizer
from ncn.generation.decoding import conditions_of, generate
from ncn.generation.sampling import Sampling
from ncn.model import LanguageModel
from ncn.model.inputs import measured
from ncn.statistics.interval import Floats


def steering(
    model: LanguageModel,
    prompts: Tensor,
    length: int,
    tokenizer: Tokenizer,
    sampling: Sampling,
    seed: int,
    values: Sequence[float],
) -> dict[str, dict[str, Any]]:
    """By slider of the model: values, moved (m_v - m_without by value) and slope, each
    [value, low, high] over rows; {} of a model without sliders, or of fewer than two rows.

    Args:
        model: put into evaluation mode.
        prompts: [N, T].
        length: tokens of a continuation; what an end of text is followed by counts too.
        tokenizer: the model's.
        sampling: how a token is drawn.
        seed: row n draws from seed + n, whatever the slider.
        values: of the sliders, none of them 0.
    """
    network, settings = model.control, model.config.control
    if settings is None or not isinstance(network, ControlNetwork) or len(prompts) < 2:
        return {}
    if not (names := settings.sliders):
        return {}
    from ncn.statistics.sample import mean_interval  # loads scipy, which few runs need

    mean, sd = (each.cpu().double().numpy() for each in (network.slider_mean, network.slider_sd))

    def measures(conditions: Conditions) -> Floats:  # [N, sliders]
        text = generate(
            model, prompts, length, sampling.temperature, sampling.top_k, seed,
            top_p=sampling.top_p, conditions=conditions,
        )  # fmt: skip
        found = measured(text[:, prompts.shape[1] :].cpu().numpy(), names, tokenizer)
        standardised: Floats = (found - mean) / sd
        return standardised

    steered: dict[str, dict[str, Any]] = {}
    without, at = measures(NO_CONDITIONS), np.array(values)
    for place, name in enumerate(names):
        given = (conditions_of(model, sliders={name: value}) for value in values)
        moved = np.array([(measures(each) - without)[:, place] for each in given])  # [values, N]
        steered[name] = {
            "values": list(values),
            "moved": [[*mean_interval(each)] for each in moved],
            "slope": [*mean_interval(at @ moved / (at @ at))],
        }
    return steered
