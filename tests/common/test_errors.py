"""A tired person's view: one line, a status that is not 0, nothing half-written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ncn.common.errors import InputError, Interrupted, run_command
from ncn.common.files import read_json, replacing, replacing_directory, write_json
from ncn.common.stopping import said_of_interrupts
from ncn.model import build_model, save_model
from ncn.settings import Params
from tests.conftest import PARAMS, ROOT

# A stage as `python -m` starts it, interrupted when it begins to import a module.
IMPORTING = """
import os, runpy, signal, sys
module = sys.argv[1]
def interrupt(event, arguments):
    if event == "import" and arguments[0] == module:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
sys.argv = ["-m"]
runpy.run_module("stages.train", run_name="__main__", alter_sys=True)
"""


def fails(message: str) -> None:
    raise InputError(message)


def test_an_interrupt_can_say_that_what_is_done_is_kept() -> None:
    with (
        pytest.raises(Interrupted, match="the same command goes on"),
        said_of_interrupts("interrupted: the same command goes on"),
    ):
        raise KeyboardInterrupt


def test_bad_input_is_one_line_and_status_1() -> None:
    with pytest.raises(SystemExit) as ending:
        run_command(lambda: fails("key: value is not allowed"))
    assert ending.value.code == "error: key: value is not allowed"  # printed, status 1


def test_a_name_with_a_line_end_leaves_the_message_a_line() -> None:
    with pytest.raises(SystemExit) as ending:
        run_command(lambda: fails("a\nb\x1b[2J: é"))
    assert ending.value.code == r"error: a\nb\x1b[2J: é"


def test_an_interrupt_never_counts_as_success() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ending:
        run_command(interrupted)
    assert ending.value.code == 130


@pytest.mark.parametrize("module", ["numpy", "torch._C", "torch.distributed"])
def test_an_interrupt_while_a_stage_imports_is_one_line(tmp_path: Path, module: str) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", IMPORTING, module],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, words = started.communicate()
    assert started.returncode == 130
    assert words.strip() == "interrupted before it began: the same command starts again"


def test_a_programming_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: print(1 // 0))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EFBIG, errno.EISDIR])
def test_a_file_that_the_system_refuses_is_one_line(number: int) -> None:
    def refused() -> None:
        raise OSError(number, os.strerror(number), "plots/train/ncn-1.tsv")

    words = f"error: plots/train/ncn-1.tsv: {os.strerror(number)}: fix that and run the same"
    with pytest.raises(SystemExit, match=words):
        run_command(refused)


def full(path: Path) -> None:
    """What is written beside `path` goes to a device without space."""
    (path.parent / f".{path.name}.new").symlink_to("/dev/full")


@pytest.mark.parametrize(
    "work",
    [
        "run_command(lambda: bytearray(10**10))",
        "import torch; run_command(lambda: torch.empty(10**10))",  # torch's own words
        "explain_while_loading(); bytearray(10**10)",
        "explain_while_loading(); limit(2**28); import torch",
    ],
)
def test_too_little_memory_is_one_line(work: str) -> None:
    code = (
        "import resource; from ncn.common.errors import explain_while_loading, run_command\n"
        "def limit(size): resource.setrlimit(resource.RLIMIT_AS, (size, 2**33))\n"
        f"limit(2**33); {work}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: not enough memory")
    assert done.stderr.count("\n") == 1


def test_a_full_disk_is_said_in_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"old": 1})
    full(path)
    with pytest.raises(SystemExit) as ending:
        run_command(lambda: write_json(path, {"new": 1}))
    assert str(ending.value.code).startswith("error: no space left on")
    assert read_json(path) == {"old": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.json"]


def test_a_full_disk_leaves_no_half_model(
    tiny: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(build_model(tiny, "ncn", 97, 1), tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()

    def no_space(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(SystemExit, match="no space left on"):
        run_command(lambda: save_model(build_model(tiny, "ncn", 97, 2), tmp_path / "model"))
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_json(tmp_path / "out" / "a.json", 1)
    with pytest.raises(InputError), replacing_directory(tmp_path / "out") as beside:
        write_json(beside / "b.json", 2)
        fails("half way")
    with pytest.raises(InputError), replacing(tmp_path / "out" / "a.json") as file:
        file.write("half")
        fails("half way")
    assert [each.name for each in tmp_path.rglob("*")] == ["out", "a.json"]
    assert read_json(tmp_path / "out" / "a.json") == 1


def test_nan_never_reaches_a_json_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "m.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["tokenize_corpus", "compare", "convergence", "brain_scan"])
def test_a_stage_without_its_inputs_says_what_to_run(tmp_path: Path, stage: str) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "dvc" in done.stderr
