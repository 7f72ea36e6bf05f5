"""What the runs left in data/, copied to where people read it and git keeps it."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from ncn.common.files import as_written, read_json, replacing_directory, write_json
from ncn.common.paths import (
    CHOSEN,
    GRID,
    LOG,
    LOG_COPIES,
    SCORES,
    SCORES_COPIES,
    TRAINING,
    TRAINING_COPIES,
    TRIALS,
    TUNING,
    evaluation_metrics,
    model_directory,
    scores_directory,
    training_log,
    training_metrics,
    tuning_directory,
)
from ncn.common.tsv import read_tsv, write_tsv


def copy_tuning(arms: Iterable[str]) -> None:
    """Put together metrics/tuning.json, what each arm's learning rate is and how it was found, and
    plots/tuning.tsv, the trials of all arms.
    """
    folders = {arm: tuning_directory(arm) for arm in arms}
    tables = [folder / GRID for folder in folders.values()]
    with as_written("data/tuning"):
        write_json(TUNING, {arm: read_json(folder / CHOSEN) for arm, folder in folders.items()})
        rows = [row for table in tables if table.stat().st_size for row in read_tsv(table)]
        write_tsv(TRIALS, rows)


def copy_records(runs: Iterable[str]) -> None:
    """Fill metrics/train, plots/train and metrics/evaluate with the records of `runs` and no other.

    A record that is not there leaves a gap, which whoever reads it names.
    """
    runs = list(runs)
    copies: dict[Path, list[tuple[Path, Path]]] = {
        TRAINING_COPIES: [(model_directory(r) / TRAINING, training_metrics(r)) for r in runs],
        LOG_COPIES: [(model_directory(r) / LOG, training_log(r)) for r in runs],
        SCORES_COPIES: [(scores_directory(r) / SCORES, evaluation_metrics(r)) for r in runs],
    }
    for folder, pairs in copies.items():
        with replacing_directory(folder) as new:
            for source, copy in pairs:
                if source.exists():
                    shutil.copyfile(source, new / copy.name)
