"""Resumable state: exact to the bit, trusted only when whole, and never another experiment's."""

import os
import pickle
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from dvc.repo import Repo

import ncn.common.stopping
import ncn.training.states
from ncn.common.errors import InputError, Interrupted
from ncn.common.files import md5_of_directory, sha256_of
from ncn.common.stopping import StopSignals
from ncn.generation.decoding import generate
from ncn.model import LanguageModel, build_model, model_config
from ncn.settings import Params
from ncn.settings.stage_inputs import stage_source
from ncn.training.log import LogRow
from ncn.training.loop import train_model
from ncn.training.states import States, state_key, unfinished
from ncn.training.step import Engine
from tests.conftest import ROOT, VOCABULARY
from tests.training.test_loop import quick, rows


class StopAfter(StopSignals):
    """A signal that comes during the n-th step from now."""

    def __init__(self, steps: int, number: int = signal.SIGTERM) -> None:
        self.left, self.number = steps, number

    @property
    def received(self) -> int:  # type: ignore[override]
        self.left -= 1
        return self.number if self.left < 0 else 0


@pytest.fixture(scope="module")
def small(tiny: Params) -> Params:
    """A run of 40 steps, over more than one epoch, with dropout."""
    shape = tiny.model.model_copy(update={"dropout": 0.1})
    params = quick(tiny.model_copy(update={"model": shape}), epochs=5, log_every=3)
    validation = params.train.validation.model_copy(update={"every": 6, "sequences": 5})
    train = params.train.model_copy(update={"validation": validation})
    return params.model_copy(update={"train": train})


def fresh(params: Params) -> LanguageModel:
    return build_model(params, "ncn_causal", VOCABULARY, 1)


def trained(params: Params, **how: Any) -> tuple[dict[str, torch.Tensor], list[LogRow]]:
    model = fresh(params)
    log = train_model(model, rows(), params.train, 1, "run", validation=rows(20), **how)
    return model.state_dict(), log


def assert_equal(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    assert one[1] == other[1]
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0] | other[0])


@pytest.fixture(scope="module")
def undisturbed(small: Params) -> tuple[dict[str, torch.Tensor], list[LogRow]]:
    return trained(small)


@pytest.mark.parametrize("steps", [1, 2, 7, 13, 40])
def test_a_run_interrupted_every_few_steps_ends_as_if_it_never_was(
    small: Params, undisturbed: tuple[Any, Any], tmp_path: Path, steps: int
) -> None:
    def go_on(stop: StopSignals | None) -> tuple[Any, Any]:
        with States(tmp_path / "state", small.saving) as states:
            return trained(small, states=states, stop=stop)

    for done in range(steps, 41, steps):
        words = f"stopped by SIGTERM after step {done} of 40; the same command goes on from"
        with pytest.raises(Interrupted, match=words) as interruption:
            go_on(StopAfter(steps))
        assert interruption.value.signal_number == signal.SIGTERM
    assert_equal(go_on(None), undisturbed)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_each_signal_that_stops_ends_the_run_with_its_number(
    small: Params, tmp_path: Path, number: signal.Signals
) -> None:
    with (
        States(tmp_path / "state", small.saving) as states,
        pytest.raises(Interrupted, match=f"stopped by {number.name} after step 2 of") as stopped,
    ):
        trained(small, states=states, stop=StopAfter(2, number))
    assert stopped.value.signal_number == number


def test_what_is_watched_changes_nothing(small: Params, undisturbed: tuple[Any, Any]) -> None:
    def sample(model: LanguageModel) -> str:
        return str(generate(model, torch.zeros(1, 1, dtype=torch.int64), 5).tolist())

    seen: list[int] = []
    assert_equal(trained(small, sample=sample, live=lambda log: seen.append(len(log))), undisturbed)
    assert seen[-1] == len(undisturbed[1])
    model = fresh(small)
    log = train_model(model, rows(), small.train, 1, "run")
    blind = [row._replace(val_loss=None) for row in undisturbed[1]]
    assert_equal((model.state_dict(), log), (undisturbed[0], blind))


@pytest.fixture
def states(small: Params, tmp_path: Path) -> Iterator[States]:
    """Opened, with the states of steps 10 and 20 in it."""
    with States(tmp_path / "state", small.saving) as opened:
        for step in (10, 20):
            opened.save(step, {"weights": torch.full((64,), float(step))})
        yield opened


def test_a_log_that_cannot_be_shown_stops_nothing(
    small: Params, undisturbed: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def live(log: Any) -> None:
        raise OSError(28, "No space left on device")

    assert_equal(trained(small, live=live), undisturbed)
    assert "run: the log so far cannot be written: No space left" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_names_the_last_good_state(
    small: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = small.saving.model_copy(update={"every_steps": 4})
    step = Engine.step

    def diverges(engine: Engine, batch: Any, lr: float) -> Any:
        return step(engine, batch, lr if engine.steps < 6 else float("inf"))

    monkeypatch.setattr(Engine, "step", diverges)
    with (
        States(tmp_path / "state", saving) as states,
        pytest.raises(
            InputError, match=r"^run, step 8: .*; the last good state: step 4 in .*state"
        ),
    ):
        train_model(fresh(small), rows(), small.train, 1, "run", states=states)


def newest_file(states: States) -> Path:
    return max(states.folder.glob("*.pt"))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def named(path: Path) -> None:
    """Give a file the name that its content deserves."""
    path.replace(path.with_name(f"{path.name.split('.')[0]}.{sha256_of(path)}.pt"))


def of_another_version(path: Path) -> None:
    torch.save({"format": ncn.training.states.FORMAT + 1, "step": 20}, path)
    named(path)


class Hostile:
    """Unpickled by anyone who lets it, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def hostile(path: Path) -> None:
    torch.save(
        {"format": ncn.training.states.FORMAT, "step": Hostile(path.parent / "canary")}, path
    )
    named(path)


def hostile_without_torch(path: Path) -> None:
    path.write_bytes(pickle.dumps(Hostile(path.parent / "canary"), protocol=2))
    named(path)


@pytest.mark.parametrize(
    "damage",
    [truncate, flip_a_bit, empty, of_another_version, hostile, hostile_without_torch],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_state_falls_back_to_the_one_before_and_says_so(
    states: States, capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    damage(newest_file(states))
    state = states.newest()
    assert state is not None
    assert state["step"] == states.resumed == 10
    assert torch.equal(state["weights"], torch.full((64,), 10.0))
    (line,) = capsys.readouterr().err.splitlines()
    assert "is damaged" in line
    assert "going back to the state before it" in line
    assert not (states.folder / "canary").exists()
    states.save(15, {})  # and the damaged one, although of a later step, is out of the way
    newest = states.newest()
    assert newest is not None
    assert newest["step"] == 15


def test_the_canary_would_sing(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


def test_the_last_two_states_are_kept(states: States) -> None:
    states.save(30, {})
    assert [int(path.name.split(".")[0]) for path in states._files()] == [30, 20]


def test_states_are_due_by_steps_and_by_minutes(
    small: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(ncn.training.states.time, "monotonic", lambda: now)
    saving = small.saving.model_copy(update={"every_steps": 100, "every_minutes": 5})
    with States(tmp_path / "state", saving) as states:
        assert not states.due(99, last=False)
        assert states.due(100, last=False)
        assert states.due(3, last=True)
        now = 299.0
        assert not states.due(3, last=False)
        now = 300.0
        assert states.due(3, last=False)
        states.save(3, {})
        assert not states.due(4, last=False)


def test_a_full_disk_keeps_the_older_states_and_training_goes_on(
    states: States, capsys: pytest.CaptureFixture[str]
) -> None:
    before = states._files()
    (states.folder / ".new.new").symlink_to("/dev/full")
    states.save(30, {"weights": torch.zeros(100_000)})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("step 30 not saved (No space left on device); the last good state: step")
    assert states._files() == before
    assert {path.name for path in states.folder.iterdir()} == {*(p.name for p in before), "lock"}
    states.save(40, {"weights": torch.zeros(100_000)})
    state = states.newest()
    assert state is not None
    assert state["step"] == 40


def test_at_the_last_save_a_full_disk_is_waited_for(
    small: Params,
    undisturbed: tuple[Any, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ncn.common.stopping, "ROOM_SECONDS", 0.01)
    rarely = small.saving.model_copy(update={"every_steps": 1000, "every_minutes": 1000})
    with States(tmp_path / "state", rarely) as states:
        (states.folder / ".new.new").symlink_to("/dev/full")  # until a write fails
        assert_equal(trained(small, states=states, stop=StopSignals()), undisturbed)
        state = states.newest()
    assert state is not None
    assert state["step"] == 40
    assert "run: No space left on device: waiting until there is room" in capsys.readouterr().err


def test_a_signal_ends_the_wait_for_room() -> None:
    def write() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(Interrupted, match="run: stopped by SIGTERM while the disk was full; go on"):
        StopAfter(3).wait_for_room("run", "; go on", write)


def test_only_room_is_waited_for() -> None:
    def write() -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        StopSignals().wait_for_room("run", "", write)


@pytest.mark.parametrize("kilobytes", [0, 1, 60, 300])  # wherever in the file it happens
def test_a_file_that_breaks_off_is_no_state_and_costs_one_line_an_interval(
    states: States, capsys: pytest.CaptureFixture[str], kilobytes: int
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000 * kilobytes, before[1]))
    try:
        states.save(1030, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("step 1030 not saved (File too large); the last good state: step 20 in")
    assert not states.due(1031, last=False)  # saving anew at each step would take all the time
    assert states.due(2030, last=False)
    state = states.newest()
    assert state is not None
    assert state["step"] == 20


def test_no_two_processes_train_into_one_state(small: Params, tmp_path: Path) -> None:
    with States(tmp_path / "state", small.saving) as first:
        with (
            pytest.raises(InputError, match=rf"process {os.getpid()} trains in .*: wait until"),
            States(tmp_path / "state", small.saving, patience=0.3),
        ):
            pass
        first.save(1, {})
    with States(tmp_path / "state", small.saving, patience=0) as second:
        assert second.newest() is not None


@pytest.mark.filterwarnings("ignore:_NoneStep")  # of a package of DVC's
def test_a_state_goes_only_when_its_outputs_are_in_the_cache_whatever_the_clock_says(
    small: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for name in ("recorded", "not recorded"):
        Path(name).mkdir()
        (Path(name) / "log.tsv").write_text(name)
    with Repo.init(no_scm=True) as repo:
        repo.add("recorded")
    root = tmp_path / "scratch"
    for name in ("not recorded", "unfinished", "recorded"):
        with States(root / name, small.saving) as states:
            states.save(1, {})
            if Path(name).exists():
                states.finish(Path(name))
        for path in (root / name).iterdir():
            os.utime(path, (0, 0))
    with States(root / "recorded", small.saving) as mine:  # this one somebody continues
        assert mine.newest() is not None
    with States(root / "unfinished", small.saving):
        assert {path.name for path in root.iterdir()} == {"not recorded", "unfinished"}
        (left,) = unfinished(root)
        assert left[:2] == (root / "unfinished", 1)
        assert left.trains
    assert not unfinished(root)[0].trains


def test_a_trainer_that_saves_meanwhile_stops_no_other_from_starting(
    small: Params, tmp_path: Path
) -> None:
    with States(tmp_path / "one", small.saving) as one:
        (one.folder / "new").symlink_to("gone")  # listed, and renamed before it is looked at
        with States(tmp_path / "other", small.saving):
            pass
        assert one.folder.exists()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_finished_run_is_continued_only_until_dvc_has_recorded_it(
    small: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    output = Path("data/models/run-1")
    (output / "deeper").mkdir(parents=True)
    (output / "log.tsv").write_text("step\n1\n")
    (output / "deeper" / "file").write_text("1")
    with States(tmp_path / "state", small.saving) as states:
        states.save(1, {})
        states.finish(output)
    digest = md5_of_directory(output) if recorded else "0" * 32
    lock = f"stages:\n  train@run:\n    outs:\n    - path: data/models/run-1\n      md5: {digest}\n"
    Path("dvc.lock").write_text(lock)
    with States(tmp_path / "state", small.saving) as states:
        states.forget_if_recorded("train@run", output)
        assert (states.newest() is None) == recorded


@pytest.mark.parametrize(
    ("received", "error", "words"),
    [
        (
            signal.SIGTERM,
            Interrupted,
            "run: stopped by SIGTERM when DVC had removed its folder; go on",
        ),
        (0, FileNotFoundError, "removed"),
    ],
)
def test_outputs_that_a_stopped_dvc_removed_are_no_crash(
    small: Params, tmp_path: Path, received: int, error: type[Exception], words: str
) -> None:
    stop = StopSignals()
    stop.received = received
    with (
        States(tmp_path / "state", small.saving) as states,
        pytest.raises(error, match=words),
        stop.folder_may_vanish("run", "; go on"),
    ):
        states.finish(tmp_path / "removed")


def key(params: Params, **changes: Any) -> str:
    arguments = {
        "config": model_config(params, "ncn", VOCABULARY),
        "train": params.train,
        "seed": 1,
        "data": "0" * 64,
        "source": {"ncn/model.py": "0" * 64},
    }
    return state_key(**arguments | changes)


@pytest.mark.filterwarnings(
    "ignore:Pydantic serializer"
)  # the other values are none that are allowed
def test_any_setting_digest_or_seed_gives_another_key(small: Params) -> None:
    keys = [key(small), key(small, seed=2), key(small, data="1" * 64)]
    keys.append(key(small, source={"ncn/model.py": "1" * 64}))
    for name in ("ncn_causal", "baseline"):
        keys.append(key(small, config=model_config(small, name, VOCABULARY)))
    for setting, value in small.train.model_dump().items():
        other = {"a": 1} if isinstance(value, dict) else f"not {value}"
        keys.append(key(small, train=small.train.model_copy(update={setting: other})))
    assert len(set(keys)) == len(keys)


def test_an_edit_of_any_module_that_training_imports_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ncn", "stages", "kernels"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    before = stage_source("train")
    assert {"stages/train.py", "ncn/training/loop.py", "ncn/signals.py"} <= before.keys()
    for module in before:
        (tmp_path / module).write_text((tmp_path / module).read_text() + "\n")
        after = stage_source("train")
        assert [name for name in before if before[name] != after[name]] == [module]
        before = after
