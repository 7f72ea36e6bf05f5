"""A study as it is planned: studies/NAME/plan.md, and the settings of each of its sizes.

studies/NAME/profile.yaml holds what differs from params.yaml, and a section of its own:

    study:
      over: [pilot]                # profiles laid over params.yaml first, in order
      only_at: {frozen: [s]}       # arms that are there at some sizes only

Its `arms` are all of the study's: they take the place of those of params.yaml.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from ncn.common.errors import InputError
from ncn.common.paths import STUDIES
from ncn.settings import Params, read_yaml
from ncn.settings.profiles import PROFILES, overlay, read_commented, written
from ncn.settings.values import Settings, name_length, validated
from ncn.settings.yaml12 import parse_yaml
from ncn.studies.tools import git

WHOLE = "all"  # the one size of a study that names none
PLAN = "plan.md"
PROFILE = "profile.yaml"


class Own(Settings):
    """The section `study` of a profile."""

    over: list[str] = Field(default_factory=list)
    only_at: dict[str, list[str]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What is planned; `profile` is studies/NAME/profile.yaml without its section `study`."""

    name: str
    own: Own
    profile: dict[str, Any] = field(repr=False)

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return STUDIES / self.name

    @property
    def sizes(self) -> list[str]:
        """Its sizes, in order."""
        return list(self.profile.get("sizes") or [WHOLE])

    def frozen(self, size: str) -> Path:
        """Where the results of a size lie, once it has run."""
        return self.folder / size

    def experiment(self, size: str) -> str:
        """The name of a size's experiment in DVC's queue."""
        return f"{self.name}-{size}"

    def arms(self, size: str) -> dict[str, Any]:
        """The arms that a size runs."""
        arms = self.profile.get("arms") or read_yaml("params.yaml")["arms"]
        return {
            arm: each for arm, each in arms.items() if size in self.own.only_at.get(arm, [size])
        }

    def params(self, size: str) -> str:
        """params.yaml of a size, as text.

        Raises:
            InputError: settings that the pipeline would refuse.
        """
        content = read_commented("params.yaml")
        for profile in [*(PROFILES / f"{name}.yaml" for name in self.own.over), None]:
            overlay(content, read_yaml(profile) if profile else self.profile)
        content["arms"] = self.arms(size)
        content["at_size"] = None if size == WHOLE else size
        text = written(content)
        validated(Params, parse_yaml(text), f"{self.folder}, size {size}")
        return text


def names() -> list[str]:
    """The studies that there are."""
    return sorted(path.parent.name for path in STUDIES.glob(f"*/{PLAN}"))


def read_study(name: str) -> Study:
    """The study of that name.

    Raises:
        InputError: there is none, its name is too long, or its profile cannot be used.
    """
    if name not in names():
        raise InputError(f"no study {name!r} in {STUDIES}/; there are {', '.join(names())}")
    try:
        name_length(name)
    except ValueError as problem:
        raise InputError(f"{STUDIES}/{name}: {problem}") from None
    path = STUDIES / name / PROFILE
    profile = dict(read_yaml(path))
    for key in ("sizes", "arms"):
        if not isinstance(profile.get(key) or {}, dict):
            raise InputError(f"{path}: {key}: it should be a mapping by name")
    own = validated(Own, profile.pop("study", None) or {}, f"{path}: study")
    study = Study(name, own, profile)
    for arm, sizes in own.only_at.items():
        if arm not in (profile.get("arms") or {}) or not set(sizes) <= set(study.sizes):
            raise InputError(
                f"{path}: study.only_at.{arm}: {sizes}: it should be one of its arms, and some of"
                f" its sizes {', '.join(study.sizes)}"
            )
    return study


def check_committed(study: Study) -> None:
    """See that the plan is committed, and all that a run would compute with.

    Raises:
        InputError: what is not.
    """
    for name in (PLAN, PROFILE):
        file = study.folder / name
        if not git("ls-tree", "--name-only", "HEAD", "--", str(file)):
            raise InputError(f"{file} is not committed: a plan comes before its runs")
    if changed := git("status", "--porcelain", "--untracked-files=no").splitlines():
        raise InputError(
            f"{changed[0][2:].strip()} is not committed ({len(changed)} such): a study runs what a"
            " commit holds, so that it can be run again"
        )
