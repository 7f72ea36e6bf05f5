"""dvc.yaml against what the stages really import and read."""

from pathlib import Path
from typing import Any

import pytest
from dvc_data.hashfile.meta import Meta

from ncn.common.nested import leaves
from ncn.settings import Params, read_yaml
from ncn.settings.whole import UNSEEN_BY_DVC
from tests.conftest import ROOT
from tests.pipeline.rooms import OVERLAY, PACKAGES, closure

STAGES: dict[str, dict[str, Any]] = read_yaml(ROOT / "dvc.yaml")["stages"]
NO_INPUT = {"saving"}  # when to save changes no result


def stage_script(stage: str) -> Path:
    command = STAGES[stage]["cmd"].split()
    assert command[:2] == ["python", "-m"]
    return Path(*command[2].split(".")).with_suffix(".py")


def declared_code(stage: str) -> set[Path]:
    return {Path(dep) for dep in STAGES[stage]["deps"] if Path(dep).parts[0] in PACKAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_rooms_that_it_computes_with_and_no_other(stage: str) -> None:
    imported, declared = closure(stage_script(stage)), declared_code(stage) - {OVERLAY}
    covered = {file for file in imported if {file, *file.parents} & declared}
    fronts = {file for file in imported if file.stem == "__init__"}  # a docstring, at most imports
    assert imported - covered <= fronts
    assert {
        place for place in declared if not any({file, *file.parents} & {place} for file in imported)
    } == set()
    for file in fronts - covered:
        assert len((ROOT / file).read_text().splitlines()) == 1, f"{file} runs code undeclared"


def test_what_makes_models_declares_how_their_settings_are_laid_over_each_other() -> None:
    makers = {stage for stage in STAGES if {"sizes", "model"} <= {*STAGES[stage]["params"]}}
    makers = makers - {"report"} | {"adapt"}
    assert makers == {"tune", "train", "adapt"}
    assert {stage for stage in STAGES if OVERLAY in declared_code(stage)} == makers


def test_no_two_stages_write_the_same_output_and_none_is_tracked_twice() -> None:
    outs = [
        next(iter(out)) if isinstance(out, dict) else out
        for stage in STAGES.values()
        for out in stage["outs"]
    ]
    assert len(outs) == len(set(outs))


def test_the_stages_are_the_published_ones_in_order() -> None:
    assert list(STAGES) == [
        "download", "tokenize", "yardsticks", "tune", "train", "evaluate",
        "compare", "robustness", "convergence", "scaling", "brain_scan", "conditional",
        "generate", "adapt", "adaptation", "report",
    ]  # fmt: skip


def test_every_section_of_params_is_known_to_some_stage() -> None:
    used = {param.split(".")[0] for stage in STAGES.values() for param in stage["params"]}
    assert used == set(Params.model_fields) - NO_INPUT


def test_training_again_is_due_after_any_change_of_train() -> None:
    assert "train" in STAGES["train"]["params"]


def test_no_setting_has_a_name_that_dvc_leaves_out_of_what_it_knows_a_run_by() -> None:
    """`dvc.stage.cache` hashes settings without keys of these names, at any depth."""
    left_out = {Meta.PARAM_SIZE, Meta.PARAM_NFILES}
    assert left_out == UNSEEN_BY_DVC
    keys = {part for key, _ in leaves(read_yaml(ROOT / "params.yaml")) for part in key.split(".")}
    assert not left_out & keys
