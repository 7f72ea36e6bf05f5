"""Times and speeds: printed, and kept in metrics/timing.json.

They differ on every run, so that file is git-ignored and no stage declares it: a declared
output is a function of its inputs.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ncn.common.files import write_json
from ncn.common.nested import is_number
from ncn.common.paths import TIMING
from ncn.common.progress import say


@contextmanager
def timed(stage: str, **amounts: float) -> Iterator[dict[str, float]]:
    """Note how long the block took, beside what it adds to the dictionary it is given."""
    noted = dict(amounts)
    start = time.perf_counter()
    yield noted
    noted["seconds"] = round(time.perf_counter() - start, 3)
    try:
        write_json(TIMING, read_timing() | {stage: noted})
    except OSError as error:  # what took so long matters more
        say(f"{TIMING}: {error.strerror}: the times of {stage} are not noted")


def read_timing() -> dict[str, dict[str, float]]:
    """What the last run of each stage took; empty where none ran here, or the file is damaged."""
    try:
        times = json.loads(TIMING.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    if not isinstance(times, dict):
        return {}
    return {stage: noted for stage, noted in times.items() if _is_noted(noted)}


def _is_noted(noted: Any) -> bool:
    """Whether it is what `timed` writes of a stage."""
    numbers = isinstance(noted, dict) and all(map(is_number, noted.values()))
    return numbers and noted.get("seconds", 0) > 0
