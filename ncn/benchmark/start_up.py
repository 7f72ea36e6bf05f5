"""From the shell to the first work: what each stage takes to start, beside torch alone."""

import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from ncn.benchmark.timing import compared, in_turn
from ncn.settings import Params

ROUNDS = 5
TORCH = "torch alone"
# What Python is given. The last is what training does before its first step, at published size.
STARTS = {
    "Python alone": "pass",
    TORCH: "import torch",
    "to load download": "import stages.download",
    "to load tokenize": "import stages.tokenize_corpus",
    "to load train": "import stages.train",
    "to load evaluate": "import stages.evaluate",
    "to load compare": "import stages.compare",
    "to load brain_scan": "import stages.brain_scan",
    "to load report": "import stages.report",
    "to load ncn generate": "import ncn.commands.generate",
    "to the first step of train": "from ncn.benchmark.training import first_step; first_step()",
}
# As `python -m stages.train` begins: see ncn.common.before_torch.
AS_A_STAGE = (
    "from importlib.machinery import ModuleSpec; __spec__ = ModuleSpec('stages.start', None);"
    " import ncn.common.before_torch; "
)


def starting(code: str) -> Callable[[], None]:
    """Python, started anew on `code`, until it ends."""
    words = [sys.executable, "-c", code if code in ("pass", "import torch") else AS_A_STAGE + code]

    def run() -> None:
        subprocess.run(words, check=True, capture_output=True)

    return run


def start_up(params: Params, device: torch.device) -> dict[str, Any]:
    """Seconds of each start, the processor's beside the clock's."""
    seconds = in_turn({name: starting(code) for name, code in STARTS.items()}, ROUNDS, "start-up")
    figures: dict[str, Any] = compared(seconds, TORCH)
    for name, code in STARTS.items():
        figures[name]["processor_seconds"] = min(processor_seconds(code) for _ in range(3))
    return figures


def processor_seconds(code: str) -> float:
    """What a start takes of the processors: a busy machine changes it less than the clock's."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = used()
    starting(code)()
    return used() - before


def start_up_table(figures: dict[str, Any]) -> list[str]:
    """The starts as Markdown."""
    return [
        "## Start-up",
        "",
        "From starting Python, its end included. Nothing that computes starts sooner than torch.",
        "",
        "| start | seconds | of the processors | ratio to torch alone |",
        "|---|---|---|---|",
        *(
            f"| {name} | {entry['seconds']:.2f} | {entry['processor_seconds']:.2f} |"
            f" {entry['ratio']:.2f} |"
            for name, entry in figures.items()
        ),
    ]
