"""Feed every parser and loader with hostile input, and tell what it cannot stand.

    make fuzz                                                    # INPUTS=200000 SEED=0
    python -m tests.fuzz --only rows --number 1234 --seed 0      # one input again

A fault is an exception that is no one-line error of ours, 10 seconds without an end, 2 GB of memory
more than before, or a wrong answer (each target checks what must hold). Of each kind of fault the
first input is kept in .scratch/fuzz/, for tests/fuzz/faults/.
"""

import argparse
import contextlib
import io
import math
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NamedTuple
from unittest.mock import Mock, patch

from tqdm import tqdm

from ncn.common.errors import fixable, in_one_line
from ncn.corpus.workers import spread
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS

SECONDS = 10
MEMORY = 2 << 30
LONGEST_LINE = 1000  # letters of a message
AT_ONCE = 200  # inputs of a target between two reports
KEPT = Path(".scratch/fuzz")


class Fault(NamedTuple):
    """What an input did: where, its number, of which kind, and the file that was changed."""

    target: str
    number: int
    kind: str
    error: str
    changed: str
    content: bytes


class Hang(BaseException):
    """No end in sight."""


def _hangs(number: int, frame: FrameType | None) -> None:
    raise Hang


def inputs(target: str, seed: int, numbers: range, changed: str = "*") -> list[Fault]:
    """Feed one target with the inputs of these numbers, in a folder of its own; what went wrong.

    Args:
        target: of TARGETS.
        seed: of the inputs.
        numbers: of the inputs: each depends on its own alone.
        changed: only files of this name are changed.
    """
    faults = []
    before = signal.signal(signal.SIGALRM, _hangs)
    back, how = Path.cwd(), TARGETS[target]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            how.write()
            found = Path().glob(how.changed) if how.changed else ()
            files = sorted(file for file in found if file.is_file() and file.match(changed))
            for number in numbers:
                draw = random.Random(f"{target} {seed} {number}")
                faults += _one(target, number, draw, files)
        finally:
            os.chdir(back)
            signal.signal(signal.SIGALRM, before)
    return faults


def once_more(kept: Path) -> list[Fault]:
    """An input that was a fault, as TARGET-NUMBER-FILE keeps it; what goes wrong with it now."""
    target, number, name = kept.name.split("-", 2)
    content = kept.read_bytes()
    with patch("tests.fuzz.campaign.mutated", Mock(return_value=content)) as given:
        faults = inputs(target, 0, range(int(number), int(number) + 1), name)
    assert given.called, f"{target} reads no file {name}"
    return faults


def _one(target: str, number: int, draw: random.Random, files: list[Path]) -> Iterator[Fault]:
    """One input: a file changed, what reads it run, the file put back."""
    path = draw.choice(files) if files else None
    whole = path.read_bytes() if path else b""
    content = mutated(path.name, whole, draw) if path else b""
    if path:
        path.write_bytes(content)
    kind, words = "", ""
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            TARGETS[target].read(draw)
    except Hang:
        kind = f"no end after {SECONDS} s"
    except Exception as error:
        if (problem := fixable(error)) is None:
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
            words = str(error)
        elif len(in_one_line(problem)) > LONGEST_LINE:
            kind, words = "a message that is no line", problem
    except BaseException as error:  # Rust's panics are none of Exception
        kind, words = type(error).__name__, str(error)
    finally:
        signal.alarm(0)
        if path:
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
    if kind:
        yield Fault(target, number, kind, words[:300], str(path), content)


def _limited(target: str, seed: int, numbers: range) -> tuple[int, list[Fault]]:
    """In a worker: how many inputs it fed, and what went wrong."""
    _limit()
    return len(numbers), inputs(target, seed, numbers)


@cache
def _limit() -> None:
    """From here on, this process takes no more than MEMORY beside what it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)


def main() -> None:
    """Run, show a table, keep the first input of each fault; status 1 where there was one."""
    parser = argparse.ArgumentParser(description="Hostile input for every parser and loader.")
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=TARGETS, help="one target")
    parser.add_argument("--number", type=int, help="one input of it")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(TARGETS)
    if arguments.number is not None:
        for fault in inputs(
            names[0], arguments.seed, range(arguments.number, arguments.number + 1)
        ):
            sys.exit(f"{fault.target} {fault.number}: {fault.kind}: {fault.error}")
        return
    total = sum(TARGETS[name].weight for name in names)
    shares = {name: math.ceil(arguments.inputs * TARGETS[name].weight / total) for name in names}
    tasks = [
        (name, arguments.seed, range(first, min(first + AT_ONCE, share)))
        for name, share in shares.items()
        for first in range(0, share, AT_ONCE)
    ]
    random.Random(0).shuffle(tasks)  # slow ones and quick ones by turns: an estimate that holds
    faults: list[Fault] = []
    with tqdm(total=sum(shares.values()), desc="fuzz", disable=None) as bar:
        for done, found in spread(_limited, tasks, arguments.workers):
            faults += found
            bar.update(done)
    print(f"{sum(shares.values()):,} inputs, {len(faults)} faults")
    for (target, kind), count in Counter((each.target, each.kind) for each in faults).items():
        first = next(each for each in faults if (each.target, each.kind) == (target, kind))
        kept = KEPT / f"{target}-{first.number}-{Path(first.changed).name}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(first.content)
        print(f"{count:6} {target} {first.number}: {kind}: {first.error}\n       {kept}")
    sys.exit(bool(faults))
