"""`make bench`: what a control network costs and what the kernels save, measured on this machine.

Arms and forms are timed in turn, round after round, and compared within a round: the machine's
speed drifts, and a ratio of two neighbours does not. The table names the machine that it was made
on; what needs a GPU stays empty where there is none.
"""

import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ncn.benchmark.generation import generating, generating_table
from ncn.benchmark.kernels import elementwise_kernels, kernel_table, measure_kernels, output_head
from ncn.benchmark.libraries import libraries, libraries_table
from ncn.benchmark.skipping import skipping, skipping_table
from ncn.benchmark.start_up import start_up, start_up_table
from ncn.benchmark.switching import switching, switching_table
from ncn.benchmark.training import (
    MECHANISMS,
    arms,
    arms_table,
    mechanisms,
    mechanisms_table,
    speed,
    speed_table,
    whole_step_table,
    whole_steps,
)
from ncn.corpus.tokenizer import GPT2_VOCABULARY
from ncn.settings import Params
from ncn.settings.profiles import experiment

CPU_INFO = Path("/proc/cpuinfo")


class Section(NamedTuple):
    """What is measured by itself and kept at once: `python -m ncn benchmark head` does one again.

    measure: returns the figures; none where that needs another machine.
    table: the figures, or why there are none, as lines of Markdown.
    """

    measure: Callable[[Params, torch.device], dict[str, Any]]
    table: Callable[[dict[str, Any]], list[str]]


SECTIONS = {
    "training_step": Section(arms, arms_table),
    MECHANISMS: Section(
        lambda params, device: mechanisms(experiment(MECHANISMS), device), mechanisms_table
    ),
    "training_speed": Section(speed, speed_table),
    "start_up": Section(start_up, start_up_table),
    "libraries": Section(libraries, libraries_table),
    "generation": Section(generating, generating_table),
    "switching": Section(switching, switching_table),
    "skipping": Section(skipping, skipping_table),
    "whole_step": Section(whole_steps, whole_step_table),
    "kernels": Section(
        lambda params, device: measure_kernels(device, elementwise_kernels(device)),
        lambda figures: ["## Kernels", "", *kernel_table(figures)],
    ),
    "head": Section(
        lambda params, device: measure_kernels(device, output_head(device)),
        lambda figures: [
            "## The output head with its cross-entropy", "", *kernel_table(figures),
        ],
    ),
}  # fmt: skip


def table(figures: dict[str, Any]) -> str:
    """The sections that were measured, as Markdown."""
    machine = figures["machine"]
    lines = [
        "# What a control network costs, and what the kernels save",
        "",
        f"Made by `make bench` on: {machine['device']} ({machine['processor']}), torch"
        f" {machine['torch']}, Python {machine['python']}. Published size (d_model 256, 6 layers,"
        f" vocabulary {GPT2_VOCABULARY:,}, context 512) where a heading says no other. Arms in"
        " turn, medians over rounds; a ratio is the median over rounds of the ratio within a round."
        " Seconds are this machine's, on that day.",
    ]
    for name, section in SECTIONS.items():
        if name in figures:
            lines += ["", *section.table(figures[name])]
    if not figures.get("whole_step"):
        lines += ["", "Triton's and Liger's forms need a GPU: this machine has none."]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """The processor's name and architecture."""
    found = re.search(r"^model name\s*: (.+)$", CPU_INFO.read_text(), re.M)
    return f"{found[1]}, {platform.machine()}" if found else platform.machine()
