"""What is locked: versions, digests and licences agree, and no answer is not a good answer."""

import json
import re
import tomllib
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ncn.__main__ import loaded
from ncn.common.errors import InputError
from ncn.upkeep import audit
from ncn.upkeep.licences import LICENCES, licence_of
from ncn.upkeep.lock import locked
from tests.conftest import ROOT

LOCK, HASHES = ROOT / "requirements.lock", ROOT / "requirements.hashes"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def as_text(wanted: list[Requirement]) -> set[str]:
    return {str(each) for each in wanted}


def test_what_is_hashed_is_what_is_locked_but_for_torch() -> None:
    torch = [each for each in locked(LOCK) if each.name == "torch"]
    assert len(torch) == 1
    assert as_text(locked(HASHES)) == as_text(locked(LOCK)) - as_text(torch)


def test_every_line_of_the_hashes_is_a_pin_with_digests() -> None:
    text = re.sub(r"^#.*\n", "", HASHES.read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    assert len(lines) == len(locked(HASHES))
    digest = r" +--hash=sha256:[0-9a-f]{64}"
    assert [each for each in lines if not re.fullmatch(rf"\S+==[^#]*?({digest})+", each)] == []


def test_locked_versions_satisfy_what_pyproject_asks_for() -> None:
    pins = {each.name: str(each.specifier).removeprefix("==") for each in locked(LOCK)}
    asked = PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["dev"]
    for each in map(Requirement, asked):
        name = re.sub(r"[-_.]+", "-", each.name).lower()
        assert each.specifier.contains(pins[name], prereleases=True), name


def test_the_locks_name_no_place() -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ file", LOCK.read_text())
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ file", HASHES.read_text())


def test_every_locked_package_has_its_licence() -> None:
    text = (ROOT / LICENCES).read_text()
    others = text.rpartition("\nOf other systems")[2]
    for each in locked(LOCK):
        version = str(each.specifier).removeprefix("==")
        listed = re.search(rf"^\| {each.name} \| {version} \| \S.* \|$", text, re.MULTILINE)
        assert listed or f"{each.name} {version}" in others, "run `make licences`"


def test_a_licence_is_named_and_not_quoted() -> None:
    package = Message()
    package["License"] = "MIT License\n\nPermission is hereby granted"
    assert licence_of(package) == "MIT License"
    package["Classifier"] = "License :: OSI Approved :: BSD License"
    assert licence_of(package) == "BSD License"
    package["License-Expression"] = "MIT"
    assert licence_of(package) == "MIT"
    assert licence_of(Message()) == "see its files"


def audited(folder: Path, script: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `python -m ncn audit` prints where pip-audit is this script."""
    (folder / audit.PIP_AUDIT).parent.mkdir(parents=True, exist_ok=True)
    (folder / audit.PIP_AUDIT).write_text(f"#!/bin/sh\n{script}\n")
    (folder / audit.PIP_AUDIT).chmod(0o755)
    module = loaded("audit")
    assert module is not None
    module.run(None)
    return capsys.readouterr().out


def test_no_answer_is_not_a_good_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(audit.report(), str)  # no pip-audit
    dead = audited(tmp_path, "echo Traceback >&2; echo 'no network' >&2; exit 1", capsys)
    assert dead == "not checked: no network\n"
    good = {"name": "a", "version": "1", "vulns": []}
    skipped = {"name": "b", "skip_reason": "not found"}
    for packages, said in {
        (1, 0): "no known vulnerabilities in 1 packages\n",
        (1, 1): "not checked: the database has no answer for 1 of 2 packages\n",
    }.items():
        found = {"dependencies": [good] * packages[0] + [skipped] * packages[1]}
        assert audited(tmp_path, f"echo '{json.dumps(found)}'", capsys) == said


def test_a_known_vulnerability_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    hole = {"id": "CVE-1", "fix_versions": ["1.1"]}
    found = {"dependencies": [{"name": "a", "version": "1.0", "vulns": [hole]}]}
    with pytest.raises(InputError, match=r"a 1.0: CVE-1 \(fixed in 1.1\): see make lock"):
        audited(tmp_path, f"echo '{json.dumps(found)}'; exit 1", capsys)
