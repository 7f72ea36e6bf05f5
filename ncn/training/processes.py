"""Several processes that train one model: started from params or by torchrun, and their group.

Each process is a rank. Every rank reads the same rows and takes its own part of each batch, so a
batch, and with it the loss curve, is the same whatever their number. torchrun watches the ranks:
when one dies it stops the others, and all of them start again. A torchrun of your own, across
machines, needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for that: by default its ranks meet in a store
that outlives them, and one may find there the address of a rank that is dead, and wait for it.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

from ncn.common.errors import InputError, fixable
from ncn.common.files import read_json
from ncn.common.progress import say
from ncn.common.stopping import die_with_parent
from ncn.settings import Train

# A rank that waits for the others fails after this long. Longer than anything that one rank does
# alone, such as saving; a rank that dies is noticed at once, by its closed connection.
TIMEOUT = timedelta(minutes=10)
RESTARTS = 3  # of all ranks, after one died
RUN_ID = "ranks"  # of those that `run_ranks` starts


def threads_of_a_process(train: Train) -> int:
    """Threads are shared by the processes, at least one each."""
    return max(1, train.threads // train.processes)


def started_by_torchrun() -> bool:
    """Is this process one rank of several (or the only one that a torchrun started)?"""
    return "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE"} <= os.environ.keys()


def processes() -> int:
    """The number of ranks in the group; 1 outside of one."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this process is, from 0. Rank 0 alone writes files and talks."""
    return dist.get_rank() if dist.is_initialized() else 0


def share_of(batch: int) -> slice:
    """The rows of a batch that this rank computes: equal, contiguous parts, in rank order.

    Raises:
        InputError: the batch cannot be shared equally.
    """
    check_division(batch, processes())
    size = batch // processes()
    return slice(rank() * size, (rank() + 1) * size)


def check_division(batch: int, n_processes: int) -> None:
    """Raise InputError where `batch` rows cannot be shared equally by `n_processes`."""
    if batch % n_processes:
        raise InputError(
            f"train.micro_batch_size x train.grad_accum_steps: {batch} sequences a step cannot be"
            f" shared equally by {n_processes} processes; take a multiple of {n_processes}"
        )


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Be a member of torchrun's group within the block; nothing where this process is alone."""
    if not started_by_torchrun():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    except Exception as error:
        _report(error)
        raise
    finally:
        dist.destroy_process_group()


def _report(error: Exception) -> None:
    """Leave word of what ends this rank where torchrun looks for it.

    Raises:
        SystemExit: what a user can fix, and `run_ranks` says it, once for all ranks.
    """
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    words = fixable(error)
    get_error_handler().record_exception(InputError(words) if words else error)
    if words and os.environ.get("TORCHELASTIC_RUN_ID") == RUN_ID:
        raise SystemExit(1) from None


def launch(module: str, arguments: list[str], train: Train) -> None:
    """Run `python -m MODULE ARGUMENTS` in `train.processes` ranks on this machine, to the end.

    Raises:
        InputError: a batch that they cannot share equally, or what a rank raised.
        SystemExit: with the status of the rank that failed, after its restarts too.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    die_with_parent()
    check_division(train.micro_batch_size * train.grad_accum_steps, train.processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_of_a_process(train)))
    try:
        run_ranks(train.processes, RESTARTS, sys.executable, "-m", module, *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        code = failure.exitcode
        sys.exit(128 - code if code < 0 else code)
    except SignalException as interruption:  # the ranks were told, and have saved
        sys.exit(128 + interruption.sigval)


def run_ranks(
    n_processes: int, restarts: int, entry: str | Callable[..., Any], *arguments: Any
) -> dict[int, Any]:
    """Run a command, or a function, in each of n_processes ranks; what each returns.

    Only the first is heard. Where one dies, all start again, as under torchrun; but not for what
    would only happen again.

    Raises:
        InputError: one of them raised it.
        ChildFailedError: a rank failed, and so did one after each of `restarts` restarts.
    """
    # Here: only this way of starting needs them, and they take a moment to import.
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for module in ("multiprocessing.api", "agent.server.api"):  # what they say is said below
        logging.getLogger(f"torch.distributed.elastic.{module}").setLevel(logging.CRITICAL)
    restart = 0
    while True:
        with TemporaryDirectory() as reports:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=n_processes,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                local_addr="localhost",
                max_restarts=0,
                run_id=RUN_ID,
                logs_specs=DefaultLogsSpecs(log_dir=reports, local_ranks_filter={0}),
            )
            try:
                return elastic_launch(config, entry)(*arguments)
            except ChildFailedError as error:
                texts = [_words(path) for path in sorted(Path(reports).rglob("error.json"))]
                for text in texts:
                    if text.startswith(f"{InputError.__name__}: "):
                        raise InputError(text.partition(": ")[2]) from None
                restart += 1
                number, failure = error.get_first_failure()
                how = "; ".join(texts) or f"status {failure.exitcode}"
                then = f"restart {restart} of {restarts}" if restart <= restarts else "giving up"
                say(f"rank {number} ended ({how}): {then}")
                if restart > restarts:
                    raise


def _words(report: Path) -> str:
    """What a rank left of the exception that ended it: its type and first line."""
    return str(read_json(report)["message"]["message"]).partition("\n")[0]
