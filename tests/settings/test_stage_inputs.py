"""A stage writes nothing that is not made from what dvc.lock will say."""

import ast
import shutil
from pathlib import Path

import pytest

from ncn.code_at_start import note_code
from ncn.common.errors import InputError
from ncn.settings.stage_inputs import StageInputs, stage_source
from tests.conftest import ROOT

DEFINITION = """
stages:
  train:
    matrix: {arm: [a, b], seed: [1]}
    cmd: train
    deps: [stages/train.py, ncn/model, data/tokens]
    params: [model, "arms.${item.arm}", train.lr]
    outs: ["data/models/${item.arm}-${item.seed}", metrics/a.json: {cache: false}]
"""
PARAMS = """
model: {width: 8}
arms: {a: {x: 1}, b: {x: 2}}
train: {lr: 0.003, epochs: 1}
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("stages", "ncn/model/__pycache__", "ncn/other", "data/tokens"):
        Path(folder).mkdir(parents=True)
    for file in ("stages/train.py", "ncn/model/a.py", "ncn/other/b.py", "data/tokens/train.bin"):
        Path(file).write_text("1")
    Path("dvc.yaml").write_text(DEFINITION)
    Path("params.yaml").write_text(PARAMS)


def edited(file: str, before: str, after: str) -> None:
    text = Path(file).read_text()
    assert before in text
    Path(file).write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("file", "before", "after", "named"),
    [
        ("params.yaml", "lr: 0.003", "lr: 0.006", "params.yaml: train.lr was 0.003 and is 0.006"),
        ("params.yaml", "width: 8", "width: 9", 'params.yaml: model was {"width": 8} and is'),
        ("params.yaml", "a: {x: 1}", "a: {x: 3}", 'params.yaml: arms.a was {"x": 1} and is'),
        ("params.yaml", "a: {x: 1}, ", "", 'params.yaml: arms.a was {"x": 1} and is "absent"'),
        ("ncn/model/a.py", "1", "2", "ncn/model/a.py"),
        ("stages/train.py", "1", "2", "stages/train.py"),
        ("data/tokens/train.bin", "1", "22", "data/tokens/train.bin"),
    ],
)
def test_a_declared_input_that_changed_is_named(
    file: str, before: str, after: str, named: str
) -> None:
    inputs = StageInputs("train", arm="a", seed=1)
    inputs.check()
    edited(file, before, after)
    with pytest.raises(InputError) as error:
        inputs.check()
    assert str(error.value).startswith(f"train@a-1: changed while the stage ran: {named}")
    assert "\n" not in str(error.value)
    edited(file, after or "arms: {", before if after else "arms: {a: {x: 1}, ")
    if not file.startswith("data"):  # of data, the time of the change counts
        inputs.check()


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("params.yaml", "epochs: 1", "epochs: 2"),
        ("params.yaml", "b: {x: 2}", "b: {x: 5}"),
        ("params.yaml", "train:", "# a comment\ntrain:"),
        ("ncn/other/b.py", "1", "2"),
    ],
)
def test_what_the_stage_does_not_declare_may_change(file: str, before: str, after: str) -> None:
    inputs = StageInputs("train", arm="a", seed=1)
    edited(file, before, after)
    Path("ncn/model/__pycache__/a.cpython-311.pyc").write_bytes(b"compiled meanwhile")
    inputs.check()


@pytest.mark.parametrize("file", ["ncn/model/a.py", "stages/train.py", "ncn/model/new.py"])
def test_what_was_edited_between_its_import_and_the_first_look_is_named(file: str) -> None:
    note_code()
    before = stage_source("train")
    Path(file).write_text("2")
    inputs = StageInputs("train", arm="a", seed=1)
    assert stage_source("train") == before
    with pytest.raises(InputError, match=f"changed while the stage ran: {file}"):
        inputs.check()


@pytest.mark.parametrize("stage", sorted((ROOT / "stages").glob("[!_]*.py")), ids=lambda x: x.stem)
def test_a_stage_writes_nothing_before_it_looks_again(stage: Path) -> None:
    """In the order of its lines, in the function that looks."""
    writes = {"write_json", "write_tsv", "write_text", "save", "copy_records", "copy_tuning"}
    for function in ast.walk(ast.parse(stage.read_text())):
        if isinstance(function, ast.FunctionDef):
            inner = {n for part in function.body if isinstance(part, ast.FunctionDef)
                     for n in ast.walk(part)}  # fmt: skip
            calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and n not in inner]
            names = {call.lineno: ast.unparse(call.func).split(".")[-1] for call in calls}
            looks = [line for line, name in names.items() if name == "check"]
            written = [line for line, name in names.items() if name in writes]
            assert not looks or not written or min(looks) < min(written)


def test_files_that_come_and_go_are_named() -> None:
    inputs = StageInputs("train", arm="a", seed=1)
    Path("ncn/model/new.py").write_text("")
    with pytest.raises(InputError, match=r"ncn/model/new\.py"):
        inputs.check()
    shutil.rmtree("ncn/model")
    with pytest.raises(InputError, match=r"ncn/model/a\.py"):
        inputs.check()


@pytest.mark.parametrize("place", ["data", "data/models", "data/models/a-1", "metrics"])
def test_an_output_behind_a_link_is_refused_before_the_work(tmp_path: Path, place: str) -> None:
    shutil.rmtree("data")
    Path("bigger").mkdir()
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).symlink_to(tmp_path / "bigger")
    with pytest.raises(InputError, match=f"^train@a-1: {place} is a link to {tmp_path}/bigger,"):
        StageInputs("train", arm="a", seed=1)


def test_a_cached_file_that_is_a_link_is_no_obstacle(tmp_path: Path) -> None:
    Path("cached").write_text("{}")
    Path("metrics").mkdir()
    Path("metrics/a.json").symlink_to(tmp_path / "cached")
    StageInputs("train", arm="a", seed=1)
