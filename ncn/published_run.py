"""The published run as this project refers to it: its figures, and what they depend on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncn.common.errors import InputError
from ncn.common.files import as_written
from ncn.common.tsv import read_tsv
from ncn.settings import Params

# Run 1 of the preprint's repository: its figures, and the settings without which they are no
# reference for another run's.
PUBLISHED_RUN_1 = {"val_loss": 1.5082, "val_ppl": 4.5184, "parameters": 18_007_762}
PUBLISHED_SIGNALS = ("gain", "precision", "ffn_gate")  # preprint table 1
PUBLISHED_SETTINGS: dict[str, Any] = {
    "data.source": "tinystories-v2",
    "tokenizer.vocabulary": "gpt2",
    "text.line_ends": False,
    "text.mojibake": False,
    "text.quotes": False,
    "text.blanks": False,
    "text.repeats": "keep",
    "text.dialogue": "any",
    "split.validation": 0.05,
    "split.tuning": 0.0,
    "model.d_model": 256,
    "model.n_layers": 6,
    "model.n_heads": 8,
    "model.d_ff": 1024,
    "model.context_length": 512,
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
    "train.warmup_steps": 100,
    "train.sequences": 64,  # a step: micro_batch_size x grad_accum_steps, 16 x 4
    "ncn.hidden": 64,
    "ncn.heads": 2,
    "ncn.signals": list(PUBLISHED_SIGNALS),
    "ncn.gain": "2sigmoid",
    "ncn.activation": "tanh",
    "ncn.salience_start": "published",
    "ncn.precision_max": 4.0,
    "ncn.penalty": "mean",
    "ncn.homeostatic_lambda": 0.01,
    "ncn.tasks": 0,
    "ncn.sliders": [],
    "ncn.attention_entropy": False,
    "ncn.plasticity": "none",
    "eval.sequences": 3200,
    "ncn.phasic": "embedding",
}
# The rows that these settings and `split.unit: sequence` make of this file.
PUBLISHED_TEXT = "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443"
PUBLISHED_FILE = "TinyStoriesV2-GPT4-train.txt"
PUBLISHED_ROWS = {"train": 1_016_288, "val": 53_488}
PUBLISHED_STORY_ENDS = 2_717_699  # delimiters in it
# What the arms are about, on which the sources disagree, or what changes no more than rounding.
FREE_SETTINGS = {
    "data.stories", "data.path", "data.url", "data.sha256", "data.bytes", "data.hub",
    "tokenizer.vocab_size", "tokenizer.path", "tokenizer.hub",
    "split.unit", "model.balance", "ncn.controller", "ncn.salience", "ncn.init", "ncn.frozen",
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
NEAR_ZERO = 0.1  # a gate below it is as good as closed
GAIN_RANGE = (0.99, 1.05)  # in which all gains are said to stay
PRECISION_CLAMP = 4.0  # above which fp16 is said to fail
PLAIN_PLATEAU = (5.5, 6.0)  # perplexity at which plain transformers of the class are said to stop


def differences_to_published(params: Params, arm: str | None = None) -> list[str]:
    """The settings that make this run another experiment than the published one, in words.

    Args:
        params: the experiment.
        arm: with what this arm changes of `ncn` and `train`; None: the sections as they are.
    """
    ncn = params.ncn if arm is None else params.control_network(arm)
    if not ncn.reads:  # such an arm has none of its settings
        ncn = params.ncn
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
    return differences


def rows_beside_published(
    texts: Sequence[str], params: Params, rows: Mapping[str, int], n_texts: int
) -> str | None:
    """That the published text came to the published rows, in words; None of another split.

    Args:
        texts: the sha256 of each file of text.
        params: the experiment.
        rows: of each part.
        n_texts: between delimiters, empty ones too.

    Raises:
        InputError: it came to others, or to another number of stories.
    """
    ours = {
        "tokenizer.vocabulary": params.tokenizer.vocabulary,
        "split.validation": params.split.validation,
        "split.tuning": params.split.tuning,
        **{f"text.{name}": value for name, value in params.text},
        "model.context_length": params.model.context_length,
    }
    if (
        list(texts) != [PUBLISHED_TEXT]
        or params.split.unit != "sequence"
        or any(PUBLISHED_SETTINGS[key] != value for key, value in ours.items())
    ):
        return None
    for what, found, expected in (
        *((f"{part} rows", rows.get(part, 0), n) for part, n in PUBLISHED_ROWS.items()),
        # The file's end may end a story too.
        ("story ends", n_texts - (n_texts == PUBLISHED_STORY_ENDS + 1), PUBLISHED_STORY_ENDS),
    ):
        if found != expected:
            raise InputError(
                f"the published text came to {found:,} {what}, and should to {expected:,}: the"
                " vocabulary is not the published one, or the code counts otherwise"
            )
    return "as many sequences as published"


def _shown(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, dict):
        return _shown([f"{name} {each}" for name, each in value.items()])
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


# Of a control network whose outputs are all 0: 0.01 ((ln 2 + 0.01 - 1)^2 + (0.5 - 1)^2).
PENALTY_AT_ZERO = 0.01 * ((np.log(2) - 0.99) ** 2 + 0.25)
# Of untrained networks of the published form, over random starts.
UNTRAINED_PENALTIES = (0.0032, 0.0036)
PENALTY_DIGIT = 1e-4  # the last that the published log shows


def published_penalty(path: Path) -> dict[str, Any]:
    """The logged homeostatic penalty (column reg) beside those of untrained control networks.

    Returns:
        points, low, high: of the log. at_zero: of a network at z = 0. untrained: the range over
        random starts. points_outside: lines outside that range by more than half the last digit.

    Raises:
        InputError: the file is missing, or a penalty in it is missing or no number.
    """
    rows = read_tsv(path)
    with as_written(path):
        penalty = np.array([float(row["reg"]) for row in rows])
    low, high = UNTRAINED_PENALTIES
    outside = (penalty < low - PENALTY_DIGIT / 2) | (penalty > high + PENALTY_DIGIT / 2)
    return {
        "points": len(penalty),
        "low": float(penalty.min()),
        "high": float(penalty.max()),
        "at_zero": float(PENALTY_AT_ZERO),
        "untrained": [low, high],
        "points_outside": int(outside.sum()),
    }
