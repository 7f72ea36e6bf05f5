"""Imported first by a command that takes seconds to import the rest: ^C ends it with one line.

Torch's imports lose a KeyboardInterrupt, so that the command would go on, or they abort with it.
`ncn.common.errors.run_command` puts the usual handler back.
"""

import os
import signal
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\ninterrupted before it began: the same command starts again\n")
    os._exit(128 + number)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
    signal.signal(signal.SIGINT, _end)
