"""What of a trained model is trained again, and how it is made ready for that.

| method  | what is trained                                                                   |
|---------|-----------------------------------------------------------------------------------|
| control | the control network; a base without one is given one at its declared start        |
|         | (preprint 3.1: "theta are fixed")                                                 |
| lora    | adapters of low rank, about as many parameters as that control network has        |
| bitfit  | biases and norms' weights (Ben Zaken et al. 2021, arXiv 2106.10199). This model's |
|         | attention has no biases, so these are the feed-forward's, and every norm's weight |
| full    | what was trained before                                                           |
| replay  | as full, on rows of both texts                                                    |

What is not trained is frozen, and stays as it is to the last bit.
"""

import copy

from ncn.adaptation.low_rank import add_adapters
from ncn.model import LanguageModel, parameter_count
from ncn.model.initialisation import initialise
from ncn.settings import ControlSettings, Method, ModelConfig


def made_ready(
    base: LanguageModel, method: Method, control: ControlSettings, seed: int
) -> LanguageModel:
    """A copy of `base` in which what `method` trains requires a gradient, and nothing else.

    Args:
        base: a trained model.
        method: see above.
        control: of the control network that a base without one is given.
        seed: of what is new.
    """
    model = copy.deepcopy(base)
    match method:
        case "control":
            model = with_control(model, control, seed)
            assert model.control is not None
            model.requires_grad_(False)
            model.control.requires_grad_(True)
        case "lora":
            add_adapters(model, control_count(model.config, control), seed)
        case "bitfit":
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.endswith("bias") or "norm" in name)
        case "full" | "replay":
            pass
    return model


def with_control(base: LanguageModel, control: ControlSettings, seed: int) -> LanguageModel:
    """`base` around a new control network at the start that `ncn.init` declares; or as it is."""
    if base.control is not None:
        return base
    model = LanguageModel(base.config.model_copy(update={"control": control}))
    initialise(model, seed)
    model.load_state_dict(base.state_dict(), strict=False)  # all but the control network
    return model


def control_count(config: ModelConfig, control: ControlSettings) -> int:
    """The parameters of such a control network for a model of that shape."""
    without = config.model_copy(update={"control": None})
    within = config.model_copy(update={"control": control})
    return parameter_count(within) - parameter_count(without)


def trained_count(model: LanguageModel) -> int:
    """The number of parameters that require a gradient."""
    return sum(each.numel() for each in model.parameters() if each.requires_grad)
