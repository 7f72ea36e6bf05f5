"""dvc.yaml against what the stages really import and read."""

import ast
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import ncn.config
from ncn.state import WITHOUT_EFFECT

ROOT = Path(__file__).parent.parent
PACKAGES = ("ncn", "stages", "kernels")
STAGES: dict[str, dict[str, Any]] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def module_file(name: str) -> Path | None:
    """The file of one of our modules; packages hold nothing but a docstring."""
    file = ROOT / (name.replace(".", "/") + ".py")
    return file if file.is_file() else None


def imported_by(file: Path) -> set[Path]:
    """Our modules that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in names if name.split(".")[0] in PACKAGES}
    return {file for name in ours if (file := module_file(name))}


def closure(file: Path) -> set[Path]:
    """A file and every module of ours that it imports, directly or not."""
    found, waiting = set(), {file}
    while waiting:
        file = waiting.pop()
        found.add(file)
        waiting |= imported_by(file) - found
    return found


def stage_script(stage: str) -> Path:
    command = STAGES[stage]["cmd"].split()
    assert command[:2] == ["python", "-m"]
    return ROOT / (command[2].replace(".", "/") + ".py")


def declared_code(stage: str) -> set[str]:
    return {
        dep for dep in STAGES[stage]["deps"] if dep.startswith(tuple(f"{p}/" for p in PACKAGES))
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_every_module_it_imports(stage: str) -> None:
    imported = {str(file.relative_to(ROOT)) for file in closure(stage_script(stage))}
    templates = {dep for dep in declared_code(stage) if not dep.endswith(".py")}
    assert declared_code(stage) - templates == imported


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_hold_only_a_docstring_so_nothing_depends_on_them(package: str) -> None:
    body = ast.parse((ROOT / package / "__init__.py").read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    allowed = {"stages": {"ncn", "kernels"}, "ncn": {"ncn", "kernels"}, "kernels": {"kernels"}}
    for file in (ROOT / package).glob("*.py"):
        used = {path.relative_to(ROOT).parts[0] for path in imported_by(file)}
        assert used <= allowed[package], file


def test_no_two_stages_write_the_same_output_and_none_is_tracked_twice() -> None:
    outs = [
        next(iter(out)) if isinstance(out, dict) else out
        for stage in STAGES.values()
        for out in stage["outs"]
    ]
    assert len(outs) == len(set(outs))


def test_the_stages_are_the_published_ones_in_order() -> None:
    assert list(STAGES) == [
        "download", "tokenize", "train", "evaluate",
        "compare", "convergence", "brain_scan", "generate", "report",
    ]  # fmt: skip


def test_every_section_of_params_is_known_to_some_stage() -> None:
    used = {param.split(".")[0] for stage in STAGES.values() for param in stage["params"]}
    assert used == set(ncn.config.Params.model_fields)


def test_training_again_is_due_after_any_change_of_train_but_when_to_save() -> None:
    declared = {name for name in STAGES["train"]["params"] if name.startswith("train")}
    settings = set(ncn.config.Train.model_fields) - WITHOUT_EFFECT
    assert declared == {f"train.{name}" for name in settings}
