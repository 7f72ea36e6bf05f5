"""Several processes: the curve of one, and an end that a dying rank does not change."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.launcher import api

from ncn.common.errors import InputError
from ncn.common.files import replacing
from ncn.settings import Params
from ncn.training.processes import (
    check_division,
    process_group,
    processes,
    rank,
    run_ranks,
    share_of,
)
from ncn.training.step import Engine
from tests.conftest import with_arm
from tests.training.test_step import LR, batch, engine, weights

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True, scope="module")
def quick_start() -> Iterator[None]:
    """Ranks are forked from a process that has imported what they need, and computed nothing.

    Each would import it anew, which takes far longer than what it does here.
    """
    needed = [__name__, "torch._dynamo", "ncn.training.sharding"]
    multiprocessing.get_context("forkserver").set_forkserver_preload(needed)
    with pytest.MonkeyPatch.context() as patch:
        forked = partial(api.LaunchConfig, start_method="forkserver")
        patch.setattr(api, "LaunchConfig", forked)
        yield


def in_two_processes(worker: Callable[..., Any], *inputs: object, restarts: int = 0) -> Any:
    """What rank 0 of two returns; both have to end well."""
    return run_ranks(2, restarts, worker, *inputs)[0]


def made(params: Params, arm: str, double: bool, **changes: object) -> Engine:
    """An engine of its own on each rank. The batch is 8 rows, cut into micro-batches of 2."""
    if double:
        torch.set_default_dtype(torch.float64)
    settings = {"micro_batch_size": 2, "grad_accum_steps": 4, **changes}
    mine = engine(params, arm, **settings)
    torch.set_default_dtype(torch.float32)
    return mine


def trained(params: Params, arm: str, double: bool, changes: dict[str, Any]) -> Any:
    """The results of five steps, and the weights at the end."""
    torch.set_num_threads(1)
    with process_group(CPU):
        mine = made(params, arm, double, **changes)
        results = [mine.step(batch(number), LR) for number in range(5)]
        state = mine.state_dict()
        again = made(params, arm, double, **changes)
        again.load_state_dict(state)
        assert again.step(batch(5), LR) == mine.step(batch(5), LR)
        return results, weights(mine.whole_model())


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
@pytest.mark.parametrize("arm", ["baseline", "ncn_causal"])
def test_two_processes_train_as_one(tiny: Params, arm: str, sharding: str) -> None:
    expected, alone = trained(tiny, arm, True, {})
    results, together = in_two_processes(trained, tiny, arm, True, {"sharding": sharding})
    for mine, theirs in zip(results, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-12)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "sharding"),
    [
        ({"phasic": "layer", "signals": ["gain", "dropout", "norm_film"]}, "none"),
        ({"phasic": "layer", "signals": ["gain", "dropout", "norm_film"]}, "fsdp"),
        ({"controller": "recurrent"}, "fsdp"),
    ],
)
def test_two_processes_train_a_mechanism_as_one(
    tiny: Params, changes: dict[str, Any], sharding: str
) -> None:
    params = with_arm(tiny, salience="causal", **changes)
    expected, alone = trained(params, "special", True, {})
    results, together = in_two_processes(trained, params, "special", True, {"sharding": sharding})
    for mine, theirs in zip(results, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-12)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def kept(params: Params, folder: Path, dies: bool) -> torch.Tensor:
    """Six steps with a state after each; rank 1 is killed before the fourth, once."""
    torch.set_num_threads(1)
    file, died = folder / "state", folder / "died"
    with process_group(CPU):
        mine = made(params, "ncn", double=False)
        if file.exists():
            mine.load_state_dict(torch.load(file, weights_only=True))
        torch.distributed.barrier()
        while mine.steps < 6:
            if dies and rank() == 1 and mine.steps == 3 and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            mine.step(batch(mine.steps), LR)
            state = mine.state_dict()
            if rank() == 0:
                with replacing(file) as opened:
                    torch.save(state, opened.name)
            torch.distributed.barrier()
        return weights(mine.model)


def test_a_rank_that_dies_brings_the_other_down_and_a_restart_ends_where_it_would_have(
    tiny: Params, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("undisturbed", "restarted")]
    for folder in folders:
        folder.mkdir()
    undisturbed = in_two_processes(kept, tiny, folders[0], False)
    restarted = in_two_processes(kept, tiny, folders[1], True, restarts=1)
    assert (folders[1] / "died").exists()
    assert torch.equal(restarted, undisturbed)


def refused(folder: Path, by: tuple[int, ...]) -> None:
    """The ranks `by` meet bad input, the others wait for them."""
    with process_group(CPU):
        with open(folder / str(rank()), "a") as file:
            file.write("started\n")
        if rank() in by:
            raise InputError("train.lr: a speech")
        torch.distributed.barrier()


@pytest.mark.parametrize("by", [(1,), (0, 1)])
def test_bad_input_of_any_rank_is_raised_once_and_starts_nothing_again(
    tmp_path: Path, by: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=r"^train\.lr: a speech$"):
        in_two_processes(refused, tmp_path, by, restarts=3)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"started\n"}


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    assert share_of(8) == slice(0, 8)
    assert processes() == 1
    with pytest.raises(InputError, match="8 sequences a step cannot be shared equally by 3 proc"):
        check_division(8, 3)
