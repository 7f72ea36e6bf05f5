"""`make bench`, or `python -m ncn benchmark SECTION`: what control and kernels cost here."""

import argparse
import platform

import torch

from ncn.benchmark.sections import SECTIONS, processor, table
from ncn.common.errors import InputError
from ncn.common.files import as_written, read_json, write_json, write_text
from ncn.common.paths import BENCHMARK, BENCHMARK_TABLE, GPU_BENCHMARK, GPU_BENCHMARK_TABLE
from ncn.model.device import describe, pick_device
from ncn.settings import PLAIN
from ncn.settings.profiles import experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))


def run(arguments: argparse.Namespace) -> None:
    """Measure the sections named, or all; print the table and keep it in metrics/."""
    chosen = arguments.sections or list(SECTIONS)
    if unknown := [name for name in chosen if name not in SECTIONS]:
        raise InputError(f"no section {unknown[0]!r} to measure; there are {', '.join(SECTIONS)}")
    params, device = experiment("paper"), pick_device()
    plain = {"controller": "none", "match": "none"}
    params = params.model_copy(update={"arms": params.arms | {PLAIN: plain}})
    machine = {
        "device": describe(device),
        "processor": processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    gpu = device.type == "cuda"
    path, text = (GPU_BENCHMARK, GPU_BENCHMARK_TABLE) if gpu else (BENCHMARK, BENCHMARK_TABLE)
    with as_written(path, fix="delete it"):
        kept = read_json(path) if path.exists() else {}
        figures = kept if kept.get("machine") == machine else {"machine": machine}
    for name in chosen:
        figures[name] = SECTIONS[name].measure(params, device)
        write_json(path, figures)
        write_text(text, table(figures))
    print(table(figures))
