"""What a user did wrong, said in one line."""

import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType

# What a system says to a file that it does not let us read or write.
REFUSALS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.EISDIR, errno.ENOTDIR,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

# How a loader says that no memory is left, and torch, on a CPU and on a GPU.
NO_MEMORY = (
    "failed to map segment", "Cannot allocate memory", "can't allocate memory", "out of memory",
)  # fmt: skip


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
        if error.errno in NO_ROOM:
            return f"no space left on {where}: free some and run the same command again"
        if error.errno in REFUSALS:
            return f"{where}: {error.strerror}: fix that and run the same command again"
    if isinstance(error, MemoryError) or any(each in str(error) for each in NO_MEMORY):
        return (
            "not enough memory: free some, or take a smaller train.micro_batch_size with more"
            " train.grad_accum_steps, or train.checkpointing"
        )
    return None


def explain_while_loading() -> None:
    """Turn what a user can fix into one line already while modules are loaded, as torch is."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and (problem := fixable(error)):
            print(f"error: {in_one_line(problem)}", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook


def in_one_line(text: str) -> str:
    """With what ends a line, or moves on it, written as Python writes it."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; turn what a user can fix into one line on stderr and exit status 1.

    An interrupt exits with 128 + the signal's number, never 0: DVC would record 0 as success. So
    does a reader of the output that went away before the work was done; afterwards it is no error.
    What a terminal cannot show, it shows escaped.
    """
    gc.freeze()  # what was loaded (`ncn.common.before_torch`) is never searched for waste
    gc.enable()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        elif stream is None:  # closed
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    done = False
    try:
        main()
        done = True
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the flush at exit
        sys.exit(0 if done else 128 + signal.SIGPIPE)
    except Interrupted as interruption:
        if words := str(interruption):
            print(words, file=sys.stderr)
        sys.exit(128 + interruption.signal_number)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was recorded; the same command starts again", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if problem := fixable(error):
            sys.exit(f"error: {in_one_line(problem)}")
        raise
