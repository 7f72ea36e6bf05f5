"""Times and speeds: printed, and kept in metrics/timing.json.

They differ on every run, so that file is git-ignored and no stage declares it: a declared
output is a function of its inputs.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ncn.common.files import write_json
from ncn.common.paths import TIMING


@contextmanager
def timed(stage: str, **amounts: float) -> Iterator[dict[str, float]]:
    """Note how long the block took, beside what it adds to the dictionary it is given."""
    noted = dict(amounts)
    start = time.perf_counter()
    yield noted
    noted["seconds"] = round(time.perf_counter() - start, 3)
    write_json(TIMING, read_timing() | {stage: noted})


def read_timing() -> dict[str, dict[str, float]]:
    """What the last run of each stage took; empty where none ran here."""
    try:
        times: dict[str, dict[str, float]] = json.loads(TIMING.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return times
