"""Stopping on a signal: finish the step, save, and end with the status that shells expect.

DVC takes an exit status of 0 for success, and when DVC itself is killed it leaves its stages
running. So a trainer has to end with 128 + the signal's number, and when its parent dies.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Self

from ncn.common.errors import NO_ROOM, Interrupted
from ncn.common.progress import say

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # of prctl(2)
ROOM_SECONDS = 60.0  # between two attempts to write to a full disk


class StopSignals:
    """Notes SIGINT, SIGTERM and SIGHUP between `with` and its end, instead of dying of them.

    The death of the parent process counts as SIGTERM. Signals that are ignored, as under nohup,
    stay ignored.
    """

    def __init__(self) -> None:
        self.received = 0  # number of the first signal; 0: none

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._note)
            for number in STOPPING
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        if die_with_parent():
            self.received = signal.SIGTERM
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.received:
            return  # a second signal must not cut off the last line
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, name: str, message: str) -> None:
        """Raise Interrupted if a signal was received; `message` says how to go on."""
        if self.received:
            reason = signal.Signals(self.received).name
            raise Interrupted(self.received, f"{name}: stopped by {reason} {message}")

    @contextmanager
    def folder_may_vanish(self, name: str, how_to_go_on: str) -> Iterator[None]:
        """Raise Interrupted where a signal was received and the block misses a file.

        DVC, stopped by the same signal, removes the copy of the project that an experiment runs in.
        """
        try:
            yield
        except FileNotFoundError:
            self.check(name, f"when DVC had removed its folder{how_to_go_on}")
            raise

    def wait_for_room(self, name: str, how_to_go_on: str, write: Callable[[], None]) -> None:
        """Call `write`, again and again while the disk is full: what it keeps took long to make.

        Args:
            name: of the run.
            how_to_go_on: after a signal, as the end of a line.
            write: leaves nothing behind where it fails.

        Raises:
            Interrupted: a signal was received while there was no room.
        """
        waiting = False
        while True:
            try:
                write()
                return
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                if not waiting:
                    say(f"{name}: {error.strerror}: waiting until there is room")
                waiting = True
            again = time.monotonic() + ROOM_SECONDS
            while time.monotonic() < again:
                self.check(name, f"while the disk was full{how_to_go_on}")
                time.sleep(0.5)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            # Not print: the signal may have come in the middle of one.
            with suppress(OSError):  # nobody may be reading any more
                os.write(2, f"\n{signal.Signals(number).name}: stopping after this step\n".encode())
        self.received = self.received or number


@contextmanager
def said_of_interrupts(words: str) -> Iterator[None]:
    """End the block with this line where somebody presses ^C."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT, f"\n{words}") from None


def die_with_parent() -> bool:
    """Ask for SIGTERM when the parent process ends; returns whether it has ended already.

    Under DVC the parent is DVC, in our session; an orphan's new parent is in another. Only
    torchrun gives its processes sessions of their own, and they cannot start without it.
    """
    if sys.platform != "linux":
        return False
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    under_dvc = "DVC_STAGE" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ
    return under_dvc and os.getsid(os.getppid()) != os.getsid(0)
