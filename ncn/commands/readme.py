"""`python -m ncn readme`: write the figures of README.md anew from metrics/.

What stands between `<!-- result -->` and `<!-- /result -->` is made here, and so are the figures in
the sentences of FIGURES: no number of the README is typed. A test compares, and finds a number
that no one makes.
"""

import argparse
import re
from collections import Counter
from functools import partial
from pathlib import Path

import torch

from kernels.actuator import actuator_reference
from ncn.commands.summary import difference, sees_the_future
from ncn.common.errors import InputError
from ncn.common.files import read_json, write_text
from ncn.common.paths import CLAIMS, COMPARISON, CONVERGENCE, SUMMARY, evaluation_metrics, run_name
from ncn.published_run import PUBLISHED_RUN_1
from ncn.settings import load_params
from ncn.signals import SIGNALS

README = Path("README.md")
BLOCK = re.compile(r"(?<=<!-- result -->\n).*?(?=<!-- /result -->)", re.DOTALL)
# Sentences outside the block with figures: each group is filled, in order, by `figures`.
FIGURES = {
    "published": r"perplexity of ([\d.]+) for (\d+) M parameters",
    "download": r"TinyStoriesV2 \(([\d.]+) GB",
    "identity": r"starts at β ≈ ([\d.]+), γ ≈ ([\d.]+)",
    "zero": r"\(β = ([\d.]+), γ = ([\d.]+)\)",
    "penalty": r"penalty at ([\d.]+) to ([\d.]+) throughout; ([\d.]+) is what",
}


def result() -> str:
    """The arms side by side as a Markdown table, and the same in words."""
    summary, comparison = read_json(SUMMARY), read_json(COMPARISON)
    seeds = comparison["seeds"]
    lines = [
        "| arm | loss | perplexity | difference to the baseline | parameters | FLOPs/token"
        " | sees the future? | scored reactively |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm, entry in summary.items():
        reactive = f"{entry['val_ppl_reactive']:.4f}" if "val_ppl_reactive" in entry else "–"
        cells = [
            f"`{arm}`",
            f"{entry['val_loss']:.4f}",
            f"{entry['val_ppl']:.4f}",
            difference(entry) or "–",
            f"{entry['parameters']:,}",
            f"{entry['flops_per_token']:,}",
            sees_the_future(entry),
            reactive,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    yardsticks = read_json(evaluation_metrics(run_name(next(iter(summary)), seeds[0])))[
        "yardsticks"
    ]
    named = ", ".join(f"{name} {value:.3f}" for name, value in yardsticks.items())
    lines += [
        "",
        f"Loss in nats a token, on the same {comparison['sequences']:,} validation sequences for"
        f" every arm, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}; differences with their"
        f" 95 % bootstrap interval, paired. For scale, counts alone reach: {named} nats.",
        "",
        *(f"- {words}" for words in comparison["in_words"].values()),
    ]
    if CLAIMS.is_file():
        verdicts = Counter(claim["verdict"] for claim in read_json(CLAIMS)["claims"])
        told = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
        lines += ["", f"The preprint's claims, counted for each arm: {told}."]
    source = load_params().data.source
    if source != "tinystories-v2":
        lines += [
            "",
            f"This run used `data.source: {source}`, not TinyStories: it shows that the pipeline"
            " works, and nothing about the published figure.",
        ]
    return "\n".join(lines) + "\n"


def figures() -> dict[str, list[str]]:
    """What fills the groups of each sentence of FIGURES."""
    penalty = read_json(CONVERGENCE)["published run 1"]["penalty"]
    size = sum(file.bytes for file in load_params().data.hub.files)
    identity = _signals({name: signal.start for name, signal in SIGNALS.items()})
    zero = _signals(dict.fromkeys(SIGNALS, 0.0))
    return {
        "published": [
            f"{PUBLISHED_RUN_1['val_ppl']:.2f}",
            f"{PUBLISHED_RUN_1['parameters'] / 1e6:.0f}",
        ],
        "download": [f"{size / 1e9:.1f}"],
        "identity": [f"{identity[name]:.2g}" for name in ("precision", "ffn_gate")],
        "zero": [f"{zero[name]:.3g}" for name in ("precision", "ffn_gate")],
        "penalty": [
            f"{penalty['low']:.4f}",
            f"{penalty['high']:.4f}",
            f"{penalty['at_zero']:.5f}",
        ],
    }


def _signals(bias: dict[str, float]) -> dict[str, float]:
    """The signals that output biases make, by name."""
    outputs = [(SIGNALS[name].transformations[0], 1) for name in bias]
    z = torch.tensor(list(bias.values()))
    made = actuator_reference(z, outputs, load_params().ncn.precision_max)
    return {name: float(value) for name, value in zip(bias, made, strict=True)}


def filled(readme: str) -> str:
    """The README's text with its figures made anew."""
    if not BLOCK.search(readme):
        raise InputError(f"{README}: no block from <!-- result --> to <!-- /result -->")
    try:
        for name, values in figures().items():
            readme = re.sub(FIGURES[name], partial(_with_groups, values), readme)
        return BLOCK.sub(lambda _: result(), readme)
    except KeyError as error:
        raise InputError(f"metrics/ has no {error}: run `dvc repro`") from None


def _with_groups(values: list[str], found: re.Match[str]) -> str:
    """The matched text with its groups replaced, in order."""
    text, start = found.group(), found.start()
    for group, value in reversed(list(enumerate(values, start=1))):
        text = text[: found.start(group) - start] + value + text[found.end(group) - start :]
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: nothing."""


def run(arguments: argparse.Namespace) -> None:
    """Write the result of README.md anew from metrics/."""
    write_text(README, filled(README.read_text(encoding="utf-8")))
