"""What a user did wrong, said in one line."""

import errno
import signal
import sys
from collections.abc import Callable

# What a system says to a file that it does not let us read or write.
REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.EISDIR, errno.ENOTDIR)


class InputError(ValueError):
    """Input that cannot be used. The message is one line: what, where, and what is allowed."""


class Interrupted(Exception):  # noqa: N818 (nothing went wrong)
    """Work that a signal ended early. The message is one line: how far it came, how to go on.

    It is empty in all but the first of several processes.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def fixable(error: Exception) -> str | None:
    """What a user can do something about, in one line; None: an error of the program."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        where = error.filename or "the disk that holds this repository"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"no space left on {where}: free some and run the same command again"
        if error.errno in REFUSALS:
            return f"{where}: {error.strerror}: fix that and run the same command again"
    return None


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; turn what a user can fix into one line on stderr and exit status 1.

    An interrupt exits with 128 + the signal's number, never 0: DVC would record 0 as success.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except Interrupted as interruption:
        if words := str(interruption):
            print(words, file=sys.stderr)
        sys.exit(128 + interruption.signal_number)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was recorded; the same command starts again", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if problem := fixable(error):
            sys.exit(f"error: {problem}")
        raise
