"""Work spread over processes of this machine."""

import gc
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

from ncn.common.errors import InputError, fixable

Result = TypeVar("Result")

# Not forked from here: a library's threads may hold locks that nobody would let go of in the copy.
# From a process that has only loaded what the work needs: they share it, and start at once.
CONTEXT = get_context("forkserver")


MOST = 12  # of some 37 MB each, so that all of them and what starts them stay below 600 MB


def cores() -> int:
    """How many of them this process may use, up to MOST."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MOST, there or 1)


class _Failure(NamedTuple):
    """What a worker could not do, in one line."""

    message: str


def spread(
    function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], workers: int
) -> Iterator[Result]:
    """What `function(*task)` returns, of each task, as they are done: in no order.

    With one worker this process does all of it. What is not yet asked for is not yet begun.

    Raises:
        InputError: as `function`; or a worker was ended.
    """
    if workers <= 1:
        for task in tasks:
            yield function(*task)
        return
    waiting: Iterator[tuple[Any, ...]] = iter(tasks)
    busy: dict[Any, Any] = {}  # our end of a worker's connection, and its process
    started = []
    CONTEXT.set_forkserver_preload([function.__module__])
    try:
        for _, task in zip(range(workers), waiting, strict=False):
            ours, theirs = CONTEXT.Pipe()
            process = CONTEXT.Process(target=_work, args=(theirs, function), daemon=True)
            process.start()
            started.append(process)
            theirs.close()
            ours.send(task)
            busy[ours] = process
        ready: Any
        while busy:
            for ready in wait(list(busy)):
                try:
                    result = ready.recv()
                    following = next(waiting, None)
                    if following is not None:
                        ready.send(following)
                except (EOFError, ConnectionError):
                    busy[ready].join()
                    raise InputError(
                        f"a worker process ended with status {busy[ready].exitcode}; below 0 it was"
                        " killed, perhaps for want of memory: the same command goes on"
                    ) from None
                if following is None:
                    ready.close()
                    busy.pop(ready).join()
                if isinstance(result, _Failure):
                    raise InputError(result.message)
                yield result
    finally:
        for process in started:
            process.terminate()
            process.join()


def _work(tasks: Connection, function: Callable[..., Any]) -> None:
    """Do each task that comes, until there are no more or whoever sends them is gone."""
    gc.freeze()  # what is shared is not searched for waste, which would copy it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the first one says
    with suppress(EOFError, BrokenPipeError):
        while True:
            try:
                result = function(*tasks.recv())
            except Exception as error:
                if isinstance(error, EOFError) or not (problem := fixable(error)):
                    raise
                result = _Failure(problem)
            tasks.send(result)
