"""What the runs left in data/, copied to where people read it and git keeps it."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from ncn.common.files import replacing_directory
from ncn.common.paths import (
    LOG,
    LOG_COPIES,
    SCORES,
    SCORES_COPIES,
    TRAINING,
    TRAINING_COPIES,
    evaluation_metrics,
    model_directory,
    scores_directory,
    training_log,
    training_metrics,
)


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
