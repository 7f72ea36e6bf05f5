"""params.yaml: typed, frozen and checked once, when a stage starts."""

from ncn.settings.analyses import (
    BrainScan,
    Compare,
    Conditional,
    Convergence,
    Eval,
    Generate,
    Method,
    Robustness,
    SecondText,
)
from ncn.settings.control import MAX_TASKS, ControlSettings, Salience, Slider
from ncn.settings.data import (
    END_OF_TEXT,
    MAX_VOCABULARY,
    Data,
    Hub,
    HubFile,
    Split,
    Text,
    Tokenizer,
)
from ncn.settings.model import Baseline, Model, ModelConfig
from ncn.settings.sizes import Size
from ncn.settings.train import Saving, Train, Tune, Validation
from ncn.settings.values import Digest, Settings, validated
from ncn.settings.whole import BASELINE, PLAIN, PUBLISHED_SERIES, Params, load_params
from ncn.settings.yaml12 import read_yaml

__all__ = [
    "BASELINE",
    "END_OF_TEXT",
    "MAX_TASKS",
    "MAX_VOCABULARY",
    "PLAIN",
    "PUBLISHED_SERIES",
    "Baseline",
    "BrainScan",
    "Compare",
    "Conditional",
    "ControlSettings",
    "Convergence",
    "Data",
    "Digest",
    "Eval",
    "Generate",
    "Hub",
    "HubFile",
    "Method",
    "Model",
    "ModelConfig",
    "Params",
    "Robustness",
    "Salience",
    "Saving",
    "SecondText",
    "Settings",
    "Size",
    "Slider",
    "Split",
    "Text",
    "Tokenizer",
    "Train",
    "Tune",
    "Validation",
    "load_params",
    "read_yaml",
    "validated",
]
