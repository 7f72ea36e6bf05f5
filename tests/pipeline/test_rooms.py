"""The house: rooms of ncn/ in order, each small, imports one way and none hidden."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.pipeline.rooms import (
    PACKAGES,
    ROOMS,
    UNDECLARED,
    WATCHING,
    file_of,
    imported_by,
    modules,
    named_by,
    room_of,
)

MOST = 12  # modules in a room, so that a stranger keeps them in mind
OURS = [file for file in modules() if file.parts[0] == "ncn" and file.stem != "__init__"]


def test_every_room_has_a_place_in_the_order() -> None:
    assert {room_of(file) for file in OURS} == set(ROOMS)


@pytest.mark.parametrize("file", OURS, ids=str)
def test_a_room_uses_only_rooms_before_it(file: Path) -> None:
    used = {room_of(other) for other in imported_by(file) if other.parts[0] == "ncn"} - {"__init__"}
    above = ROOMS[: ROOMS.index(room_of(file)) + 1]
    assert used <= set(above)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_from_stages_to_ncn_to_kernels(package: str) -> None:
    allowed = {"stages": {"ncn", "kernels"}, "ncn": {"ncn", "kernels"}, "kernels": {"kernels"}}
    for file in modules():
        if file.parts[0] == package:
            assert {other.parts[0] for other in imported_by(file)} <= allowed[package], file


def test_no_two_modules_need_each_other() -> None:
    files = [file for file in modules() if file.stem != "__init__"]
    graph = {
        file: {other for other in imported_by(file) if other.stem != "__init__"} for file in files
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_import_of_ours_is_hidden_in_a_string() -> None:
    """But for the one table of commands, which loads the command that was asked for."""
    for file in modules():
        if file == Path("ncn/__main__.py"):
            continue
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
                named = " ".join(ast.unparse(argument) for argument in node.args)
                assert not re.search(rf"""['"]({"|".join(PACKAGES)})\b""", named), file


@pytest.mark.parametrize("room", sorted({file.parts[1] for file in OURS if len(file.parts) > 2}))
def test_a_room_says_in_a_line_what_belongs_there_and_is_small(room: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / "ncn" / room / "__init__.py").read_text()))
    assert text
    assert "\n" not in text
    assert len([file for file in OURS if room_of(file) == room]) <= MOST


@pytest.mark.parametrize("room", sorted({*UNDECLARED} - WATCHING))
def test_what_no_stage_declares_computes_nothing(room: str) -> None:
    for file in OURS:
        if room_of(file) == room:
            assert not {name.split(".")[0] for name in named_by(file)} & {"torch", "numpy", "scipy"}
            ours = {room_of(other) for other in imported_by(file)} - {"__init__"}
            assert ours <= {*UNDECLARED, "signals"}, file  # of which settings read the names


@pytest.mark.parametrize("room", sorted(WATCHING))
def test_what_watches_a_training_is_used_by_nothing_that_computes(room: str) -> None:
    users = {file for file in modules() if room in {room_of(each) for each in imported_by(file)}}
    rooms = {room_of(file) for file in users if file.parts[0] == "ncn"}
    assert rooms <= {room, "commands", "upkeep", "benchmark"}
    assert {file.stem for file in users if file.parts[0] == "stages"} == {"train"}


def test_the_front_doors_offer_what_is_promised() -> None:
    for name in ("ncn.settings", "ncn.model", "ncn.generation", "ncn.analysis.convergence"):
        assert file_of(name), name
    from ncn.analysis.convergence import classify, sample_efficiency
    from ncn.generation import generate
    from ncn.model import build_model, load_model, save_model
    from ncn.settings import load_params

    offered = (
        build_model,
        classify,
        generate,
        load_model,
        load_params,
        sample_efficiency,
        save_model,
    )
    assert all(map(callable, offered))
