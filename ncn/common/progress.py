"""What people watch while something takes long: one line with an estimate."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

QUIET_SECONDS = 60.0  # between lines where no terminal can redraw one

SPOKEN_OF = 1 << 28  # bytes of text from which on it is said what they will take


def say(text: str) -> None:
    """One line for people, above the progress line if there is one.

    That nobody reads any more, or that it goes to a full disk, is no reason to stop working.
    """
    with suppress(OSError):
        tqdm.write(text, file=sys.stderr)


def byte_bar(total: int | None, name: str, initial: int = 0, delay: float = 0) -> "tqdm[Any]":
    """A bar in bytes with the time left; none where stderr is not a terminal."""
    return tqdm(
        total=total,
        initial=initial,
        desc=name,
        unit="B",
        unit_scale=True,
        delay=delay,
        disable=None,
    )


class Progress:
    """The progress line of a training run: redrawn on a terminal, else a line now and then.

    Args:
        name: of the run.
        done: steps that an earlier process took.
        total: steps of the whole run.
        tokens_per_step: targets.
        memory: the most bytes used so far.
        silent: show nothing.
    """

    def __init__(
        self,
        name: str,
        done: int,
        total: int,
        tokens_per_step: int,
        memory: Callable[[], int],
        silent: bool = False,
    ) -> None:
        self._name = name
        self._first, self._total = done, total
        self._tokens_per_step = tokens_per_step
        self._memory = memory
        self._silent = silent
        self._began = self._spoke = time.monotonic()
        self._bar = tqdm(
            desc=name, initial=done, total=total, disable=True if silent else None,
            bar_format="|{bar:16}| {desc}",
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def step(self, step: int, loss: float, penalty: float, lr: float) -> None:
        """Show what `step` saw. Without a terminal, a line a minute."""
        if not self._bar.disable:
            words = f"{self._name}: {self._words(step, loss, penalty, lr)}"
            self._bar.set_description_str(words, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._spoke >= QUIET_SECONDS:
            self.say(self._words(step, loss, penalty, lr))

    def say(self, text: str) -> None:
        """A line of its own."""
        if not self._silent:
            self._spoke = time.monotonic()
            say(f"{self._name}: {text}")

    def _words(self, step: int, loss: float, penalty: float, lr: float) -> str:
        steps_per_second = (step - self._first) / (time.monotonic() - self._began)
        left = timedelta(seconds=round((self._total - step) / steps_per_second))
        return (
            f"step {step:,}/{self._total:,}, loss {loss:.4f}, penalty {penalty:.4f}, lr {lr:.2e},"
            f" {steps_per_second * self._tokens_per_step:,.0f} tokens/s, {left} left,"
            f" {self._memory() / 2**30:.1f} GiB"
        )
