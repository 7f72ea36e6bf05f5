"""What a size came to, kept in git beside the plan; and the same size run again, compared."""

import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ncn.analysis.robustness import beside_scored, read_over_fitting
from ncn.analysis.robustness import in_words as counted_in_words
from ncn.analysis.verdict import Verdict
from ncn.benchmark.sections import processor
from ncn.common.errors import InputError
from ncn.common.files import as_written, read_json, replacing_directory, write_json, write_text
from ncn.common.nested import differences
from ncn.common.paths import (
    ADAPTATION,
    BENCHMARK,
    COMPARISON,
    FIGURES,
    RESULTS,
    ROBUSTNESS,
    SCALING,
    SCALING_TABLE,
    SUMMARY,
    TUNING,
    run_name,
)
from ncn.common.progress import say
from ncn.report.ranking import FEW_ARMS, in_words, ranking
from ncn.settings import read_yaml
from ncn.studies.plan import Study
from ncn.studies.tools import ENVIRONMENT, experiment_commit, git, head, hours_of
from ncn.training.tuning import in_words as tuned_in_words

MACHINE = "machine.json"
PARAMS = "params.yaml"
RESULT = "result.md"
# What the pipeline makes of frozen sizes is no result of one: git leaves it out.
OF_STUDIES = [f":(exclude){path}" for path in (SCALING, SCALING_TABLE, FIGURES / "scaling.*")]


def freeze(study: Study, size: str) -> Path | None:
    """Copy what the experiment of a size recorded into its folder, whole or not at all.

    Returns:
        The folder; None where the size has not run.
    """
    commit = experiment_commit(study.experiment(size))
    if commit is None:
        return None
    with tempfile.TemporaryDirectory() as temporary, replacing_directory(study.frozen(size)) as new:
        packed = Path(temporary) / "kept.zip"
        git("archive", "--format=zip", f"--output={packed}", commit, *RESULTS, *OF_STUDIES)
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(new)
        began_from = git("rev-parse", f"{commit}~1").strip()
        hours = {"hours": hours_of(study.experiment(size))}
        write_json(new / MACHINE, machine(began_from) | hours)
    return study.frozen(size)


def machine(commit: str) -> dict[str, Any]:
    """Where a size ran, taken to be here, and the commit of this repository that it ran from."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "commit": commit,
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def in_markdown(study: Study) -> str:
    """The sizes that are frozen, side by side, and which are not: studies/NAME/result.md."""
    lines = [
        f"# Study {study.name}: result",
        "",
        f"Made by `python -m ncn study freeze {study.name}` from the folders beside it; the plan is"
        " [plan.md](plan.md).",
    ]
    for size in study.sizes:
        folder = study.frozen(size)
        if not folder.exists():
            lines += ["", f"## Size {size}", "", "Not run yet."]
            continue
        with as_written(folder, fix="run `git checkout` for it"):
            lines += _frozen(folder, size)
    return "\n".join(lines) + "\n"


def _frozen(folder: Path, size: str) -> list[str]:
    """What is told of a size that is frozen in `folder`."""
    comparison = read_json(folder / COMPARISON)
    lines = [
        "", f"## Size {size}", "",
        "| arm | parameters | learning rate | loss (nats) | difference [95 %] | p, Holm |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    tuning = read_json(folder / TUNING)
    for arm, mine in comparison["arms"].items():
        found, loss = comparison["differences"].get(arm), mine["val_loss"]
        spread = f" (sd {loss['sd']:.4f})" if loss["sd"] else ""
        cells = [
            f"`{arm}`",
            f"{mine['parameters']:,}",
            f"{tuning[arm]['lr']:g}",
            f"{loss['mean']:.4f}{spread}",
            "–" if found is None else _interval(found["delta_loss"]),
            "–" if found is None or found["p_holm"] is None else f"{found['p_holm']:.2g}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += _ranked(folder)
    lines += _adapted(folder)
    lines += ["", *(f"- {words}" for words in comparison["in_words"].values())]
    if tuned := [tuning[arm] for arm in comparison["arms"] if tuning[arm].get("tuned")]:
        seeds = len(read_yaml(folder / PARAMS)["tune"]["seeds"])
        lines += [
            "", f"Tuned, each trial with {seeds} seed{'s' * (seeds > 1)}: between values that lie"
            " closer than seeds scatter the choice is chance.", "",
            *(f"- {tuned_in_words(each)}" for each in tuned),
        ]  # fmt: skip
    if (folder / ROBUSTNESS).exists():
        counted = _counted_otherwise(folder, comparison)
        lines += ["", "Counted otherwise:", "", *(f"- {words}" for words in counted)]
    hours = read_json(folder / MACHINE)["hours"]
    if hours is not None:
        lines += ["", f"It took {hours:g} hours."]
    return lines


def _counted_otherwise(folder: Path, comparison: Mapping[str, Any]) -> list[str]:
    """What metrics/robustness.json says; over-fitting from the logs, since a size that was frozen
    early has a gap to the few rows that training validates on."""
    fitted = {}
    for arm, each in comparison["arms"].items():
        logs = read_over_fitting([run_name(arm, s) for s in comparison["seeds"]], folder)
        fitted[arm] = beside_scored(logs, each["scores"]["as_trained"]["loss"])
    found = read_json(folder / ROBUSTNESS) | {"over_fitting": fitted}
    return counted_in_words(found, comparison["margin"])


def _ranked(folder: Path) -> list[str]:
    """The arms of a size by their loss, where there are more than the default ones."""
    summary, comparison = read_json(folder / SUMMARY), read_json(folder / COMPARISON)
    benchmark = read_json(BENCHMARK) if BENCHMARK.exists() else {}
    rows = ranking(summary, comparison, benchmark)
    if len(rows) <= FEW_ARMS:
        return []
    reference = comparison["reference"]
    heads = ["places", "arm", "parameters", "FLOPs a token", "step time", "loss − baseline's"]
    heads += ["p, Holm"] + [f"loss − {reference}'s", "p, Holm"] * (reference is not None)
    lines = [
        "",
        "By loss, nats a token [95 %]. Places: from the lowest to the highest that the interval"
        " leaves an arm; where intervals overlap, the order is open. Step time: a multiple of the"
        " baseline's, as `make bench` measured it, apart from the runs.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
    ]
    for row in rows:
        time = "–" if row.step_time is None else f"{row.step_time:.2f}"
        cells = [" to ".join(map(str, dict.fromkeys(row.places))), f"`{row.arm}`"]
        cells += [f"{row.parameters:,}", f"{row.flops:,}", time, *_verdict(row.to_baseline)]
        cells += _verdict(row.to_reference) if reference is not None else []
        lines.append(f"| {' | '.join(cells)} |")
    words = in_words(read_yaml(folder / PARAMS), comparison, rows)
    return [*lines, "", *(f"- {each}" for each in words)]


def _adapted(folder: Path) -> list[str]:
    """What a second phase of training did, where there was one (docs/adaptation.md)."""
    path = folder / ADAPTATION
    arms = read_json(path).get("arms", {}) if path.exists() else {}  # sizes frozen before it was
    if not arms:
        return []
    lines = [
        "",
        "Trained again on a second text, in nats a token [95 % over seeds]: what of the first was"
        " forgotten, what of the second learned, and the difference of both to the baseline's under"
        " the same method.",
        "",
        "| arm and method | trained parameters | forgotten | learned | forgotten − baseline's |"
        " learned − baseline's |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in arms.items():
        cells = [f"`{name}`", f"{each['trained_parameters']:,}"]
        for found in (each, each.get("to_baseline")):
            for effect in ("forgotten", "learned"):
                cells.append("–" if found is None else _interval(found[effect]))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _verdict(verdict: Verdict | None) -> list[str]:
    """The cells of a difference: it with its interval, and its p."""
    if verdict is None:
        return ["–", "–"]
    return [_interval([*verdict.loss]), "–" if verdict.p is None else f"{verdict.p:.2g}"]


def _interval(ends: Sequence[float | None]) -> str:
    """A difference with its interval; one seed has none."""
    value, *sides = ends
    return f"{value:+.4f}" + (
        "" if None in sides else f" [{', '.join(f'{side:+.4f}' for side in sides)}]"
    )


def write_result(study: Study) -> None:
    """Write result.md anew."""
    write_text(study.folder / RESULT, in_markdown(study))


def again(study: Study, size: str) -> tuple[str, str]:
    """The commit and the params.yaml with which a frozen size is run again: those it ran with.

    Where history was rewritten and its commit is gone, the present commit with the study's profile:
    what makes models is then the same only as far as this code computes as that did.

    Raises:
        InputError: the size is not frozen.
    """
    frozen = study.frozen(size)
    if not (frozen / MACHINE).exists():
        raise InputError(f"{frozen} holds no result: run `python -m ncn study run {study.name}`")
    commit = str(read_json(frozen / MACHINE)["commit"])
    try:
        git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    except InputError:
        say(
            f"{study.name}, size {size}: the commit that it ran from, {commit[:7]}, is not in this"
            " repository; the present one runs it, with the study's profile"
        )
        return head(), study.params(size)
    return commit, (frozen / PARAMS).read_text(encoding="utf-8")


def check(study: Study, size: str) -> str:
    """Run a frozen size again, see `again`, in a clone with a cache of its own; what differs.

    Raises:
        InputError: the size is not frozen, or does not run.
    """
    frozen, (commit, params) = study.frozen(size), again(study, size)
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        git("clone", "--quiet", str(Path.cwd()), str(clone))
        git("checkout", "--quiet", commit, folder=clone)
        write_text(clone / PARAMS, params)
        environment = os.environ | ENVIRONMENT | {"DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"], cwd=clone, env=environment, check=False
        )
        if done.returncode:
            raise InputError(f"{study.name}, size {size}: dvc repro ended with {done.returncode}")
        return differences(read_json(clone / SUMMARY), read_json(frozen / SUMMARY), "frozen")
