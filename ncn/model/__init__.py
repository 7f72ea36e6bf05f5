"""The transformer: its layers, what scales them, how a model is built, saved and loaded."""

from ncn.model.build import build_model, model_config, parameter_count
from ncn.model.checkpoint import load_model, save_model
from ncn.model.language_model import LanguageModel

__all__ = [
    "LanguageModel",
    "build_model",
    "load_model",
    "model_config",
    "parameter_count",
    "save_model",
]
