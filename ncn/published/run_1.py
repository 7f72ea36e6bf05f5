"""The published run as this project refers to it: its figures, and what they depend on."""

from collections.abc import Mapping
from typing import Any

from ncn.published.claimed import PRECISION_CLAMP
from ncn.published.log import PUBLISHED_SEQUENCES, PUBLISHED_WARMUP_STEPS
from ncn.published.text import (
    PUBLISHED_CONTEXT_LENGTH,
    PUBLISHED_FILE,
    PUBLISHED_TEXT,
    TEXT_SETTINGS,
)
from ncn.settings import Params

# Run 1 of the preprint's repository: its figures, and the settings without which they are no
# reference for another run's.
PUBLISHED_RUN_1 = {"val_loss": 1.5082, "val_ppl": 4.5184, "parameters": 18_007_762}
PUBLISHED_SIGNALS = ("gain", "precision", "ffn_gate")  # preprint table 1
PUBLISHED_SETTINGS: dict[str, Any] = {
    "data.source": "tinystories-v2",
    **TEXT_SETTINGS,
    "model.d_model": 256,
    "model.n_layers": 6,
    "model.n_heads": 8,
    "model.d_ff": 1024,
    "model.context_length": PUBLISHED_CONTEXT_LENGTH,
    "model.dropout": 0.1,
    "model.modulator": "none",
    "model.experts": 1,
    "model.experts_per_token": 1,
    "model.task_tokens": 0,
    "train.epochs": 1,
    "train.lr": 6e-4,
    "train.lr_scale": {},  # factors other than 1
    "train.betas": [0.9, 0.999],
    "train.weight_decay": 0.1,
    "train.decay": "all",
    "train.grad_clip": 1.0,
    "train.schedule": "cosine",
    "train.warmup_steps": PUBLISHED_WARMUP_STEPS,
    "train.sequences": PUBLISHED_SEQUENCES,
    "ncn.hidden": 64,
    "ncn.heads": 2,
    "ncn.signals": list(PUBLISHED_SIGNALS),
    "ncn.gain": "2sigmoid",
    "ncn.activation": "tanh",
    "ncn.salience_start": "published",
    "ncn.precision_max": PRECISION_CLAMP,
    "ncn.penalty": "mean",
    "ncn.homeostatic_lambda": 0.01,
    "ncn.tasks": 0,
    "ncn.sliders": [],
    "ncn.attention_entropy": False,
    "ncn.plasticity": "none",
    "eval.sequences": 3200,
    "ncn.phasic": "embedding",
}
# How the control network starts, and whether it is trained: as the preprint describes it (4.1.4),
# and as the log of run 1 shows it (`published_penalty`).
PUBLISHED_STARTS = (
    {"ncn.init": "identity", "ncn.frozen": False},
    {"ncn.init": "zero", "ncn.frozen": True},
)
# What the arms are about, on which the sources disagree, or what changes no more than rounding.
FREE_SETTINGS = {
    "data.stories", "data.path", "data.url", "data.sha256", "data.bytes", "data.hub",
    "tokenizer.vocab_size", "tokenizer.path", "tokenizer.hub",
    "split.unit", "model.balance", "ncn.controller", "ncn.salience",
    "train.micro_batch_size", "train.grad_accum_steps", "train.precision", "train.checkpointing",
    "train.compile", "train.threads", "train.processes", "train.sharding", "train.kernels",
    "train.log_every", "train.validation",
}  # fmt: skip
# Lowest and highest value of each signal on the heatmaps published with run 1.
PUBLISHED_HEATMAPS = {
    "gain": (0.985, 1.051),
    "precision": (0.675, 0.750),
    "ffn_gate": (0.478, 0.523),
}


def differences_to_published(params: Params, arm: str | None = None) -> list[str]:
    """The settings that make this run another experiment than the published one, in words.

    Args:
        params: the experiment.
        arm: with what this arm changes of `ncn` and `train`; None: the sections as they are.
    """
    ncn = params.ncn if arm is None else params.control_network(arm)
    start: Mapping[str, object] = {"ncn.init": ncn.init, "ncn.frozen": ncn.frozen}
    if not ncn.reads:  # such an arm has none of its settings
        ncn, start = params.ncn, PUBLISHED_STARTS[0]
    sections = {
        "data": params.data,
        "tokenizer": params.tokenizer,
        "text": params.text,
        "split": params.split,
        "model": params.model if arm is None else params.model_of(arm),
        "train": params.train if arm is None else params.train_of(arm),
        "ncn": ncn,
        "eval": params.eval,
    }
    differences = []
    files = params.data.hub.files
    if [(file.sha256, file.first_bytes) for file in files] != [(PUBLISHED_TEXT, None)]:
        read = _shown([file.name + (" in part" if file.first_bytes else "") for file in files])
        differences.append(f"data.hub.files are {read}, published {PUBLISHED_FILE} alone")
    for key, theirs in PUBLISHED_SETTINGS.items():
        section, name = key.split(".")
        if key == "train.sequences":
            ours: Any = params.train.micro_batch_size * params.train.grad_accum_steps
        else:
            ours = getattr(sections[section], name)
        if key == "train.lr_scale":
            ours = {part: factor for part, factor in ours.items() if factor != 1}
        if key == "train.lr" and params.tune.lr:
            ours = f"tuned among {_shown(params.tune.lr)}"
        if ours != theirs:
            differences.append(f"{key} is {_shown(ours)}, published {_shown(theirs)}")
    if start not in PUBLISHED_STARTS:
        pairs = (", ".join(f"{k} is {v}" for k, v in each.items()) for each in PUBLISHED_STARTS)
        ours = ", ".join(f"{key} is {value}" for key, value in start.items())
        differences.append(f"{ours}, published {' or, by its log, '.join(pairs)}")
    return differences


def _shown(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, dict):
        return _shown([f"{name} {each}" for name, each in value.items()])
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
