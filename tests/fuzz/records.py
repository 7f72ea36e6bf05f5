"""What commands and stages read beside text, settings, models and the figures of a run."""

import json
import random
import shutil
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock, patch

import huggingface_hub

from ncn.analysis.adaptation import read_adapted
from ncn.analysis.records import copy_tuning
from ncn.analysis.robustness import read_over_fitting
from ncn.commands import summary
from ncn.commands.figures import DRAWN, drawn
from ncn.common.errors import InputError
from ncn.common.files import read_json, write_json
from ncn.common.paths import (
    ADAPTED_LOSSES,
    CHOSEN,
    GRID,
    RAW,
    SUMMARY,
    TIMING,
    TUNING,
    adapted_directory,
    training_log,
    training_metrics,
    tuning_directory,
)
from ncn.common.tsv import write_tsv
from ncn.figures.style import WIDTH
from ncn.model import LanguageModel, parameter_count
from ncn.publish.hub import fetch_model
from ncn.publish.model_card import model_card
from ncn.settings import load_params
from ncn.sources.kept import MANIFEST, foreign
from ncn.studies.freeze import in_markdown
from ncn.studies.plan import read_study
from ncn.studies.tools import hours_of
from ncn.training.tuning import as_chosen, chosen_rate
from ncn.upkeep import audit, doctor, experiments
from stages.tokenize_corpus import fetched_texts, work_key
from tests.conftest import PARAMS
from tests.hub import Hub, Refusal, serve_hub
from tests.results import adapted, log_rows, write_results

RUN = "ncn-1"


def write_manifest() -> None:
    """What the stage download lists, and a file of it."""
    (RAW / "text").mkdir(parents=True)
    (RAW / "text/stories.txt").write_text("A story.", encoding="utf-8")
    of_text = {"path": "text/stories.txt", "bytes": 8, "sha256": "0" * 64}
    write_json(RAW / MANIFEST, {"source": "local", "files": [of_text], "left_out": {}})


def read_manifest(draw: random.Random) -> None:
    """As the stages download and tokenize do."""
    with patch("ncn.sources.kept.holds", Mock(return_value=False)):
        foreign(RAW)
    with patch("stages.tokenize_corpus.stage_source", Mock(return_value="")):
        work_key(load_params(PARAMS))
    assert all(isinstance(digest, str) for digest in fetched_texts())


def write_experiment() -> None:
    """Settings and summary, as a commit holds them."""
    shutil.copy(PARAMS, "params.yaml")
    numbers = dict.fromkeys(("val_loss", "val_ppl", "delta_ppl", "delta_ppl_low"), 1.5)
    write_json(SUMMARY, {"baseline": {"val_ppl": 3.0}, "ncn": numbers | {"delta_ppl_high": 2.0}})


def read_experiment(draw: random.Random) -> None:
    """As the commands experiments and summary do, of a commit whose files are the present ones."""

    def committed(path: Path, revision: str = "HEAD") -> str:
        return path.read_bytes().decode(errors="replace")

    before = summary.parse_sections(PARAMS.read_text(encoding="utf-8"), "params.yaml")
    with (
        patch("ncn.commands.summary.committed", committed),
        patch("ncn.commands.summary.head", Mock(return_value="")),
    ):
        summary.beside_the_committed({"ncn": {"delta_ppl": 1.0}})
        experiments.changes(experiments.committed_params("a") or {}, before)
        experiments.found("a", None)


def write_notes() -> None:
    """What DVC, pip-audit and earlier stages leave."""
    doctor.RWLOCK.parent.mkdir(parents=True)
    pid = {"pid": 1, "cmd": "dvc repro"}
    write_json(doctor.RWLOCK, {"/data/tokens": {"write": pid, "read": [pid]}})
    write_json(TIMING, {"train ncn-1": {"seconds": 9.5, "tokens": 4096}})
    hole = {"id": "PYSEC-1", "fix_versions": ["2"]}
    packages = [{"name": "a", "version": "1", "vulns": [hole]}, {"name": "b", "skip_reason": ""}]
    write_json("audit.json", {"dependencies": packages})
    tasks = Path(".dvc/tmp/exps/run/abc")
    write_json(tasks / "abc.run", {"name": "pilot-s"})
    (tasks / "abc.out").touch()


def read_notes(draw: random.Random) -> None:
    """As the commands doctor, summary, audit and study do. A damaged note says nothing."""
    doctor.lock()
    summary.times()
    said = Path("audit.json").read_bytes().decode(errors="replace")
    done = Mock(stdout=said, stderr="")
    with patch("ncn.upkeep.audit.subprocess.run", Mock(return_value=done)):
        found = audit.report()
    with suppress(InputError):  # a vulnerability, or no answer of pip-audit
        assert isinstance(found, str) or audit.verdict(found)
    with patch("ncn.studies.tools.git", Mock(return_value="1")):
        hours_of("pilot-s")


def write_trials() -> None:
    """What an arm's tuning, training and second training leave."""
    write_json(tuning_directory("ncn") / CHOSEN, as_chosen("ncn", 1e-3))
    rows = [{"arm": "ncn", "lr": 1e-3, "seed": 1, "loss": 1.5}]
    write_tsv(tuning_directory("ncn") / GRID, rows)
    write_tsv(training_log(RUN), log_rows("ncn", 1, True))
    write_json(adapted_directory(RUN) / ADAPTED_LOSSES, adapted("ncn", "full"))


def read_trials(draw: random.Random) -> None:
    """As the stages train, compare, robustness and adaptation do."""
    assert chosen_rate("ncn") > 0
    copy_tuning(["ncn"])
    read_over_fitting([RUN])
    json.dumps(read_adapted([RUN]), allow_nan=False)


def write_study() -> None:
    """A study with a size that is frozen."""
    shutil.copy(PARAMS, "params.yaml")
    folder = Path("studies/p")
    folder.mkdir(parents=True)
    (folder / "plan.md").touch()
    (folder / "profile.yaml").write_text("sizes: {s: {}}\n", encoding="utf-8")
    loss = {"mean": 1.5, "sd": 0.1}
    arms = {"ncn": {"parameters": 7, "val_loss": loss}}
    mine = {"delta_loss": [0.1, 0.0, 0.2], "p_holm": 0.5}
    compared = {"arms": arms, "differences": {"ncn": mine}, "in_words": {"ncn": "words"}}
    write_json(folder / "s/metrics/compare.json", compared)
    write_json(folder / "s" / TUNING, {"ncn": {"lr": 1e-3}})
    write_json(folder / "s/metrics/robustness.json", {"in_words": ["words"]})
    write_json(folder / "s/machine.json", {"hours": 1.5, "commit": "abc"})


def read_frozen(draw: random.Random) -> None:
    """As `study freeze` does."""
    assert in_markdown(read_study("p"))


def write_card(model: LanguageModel) -> None:
    """The figures of a run of `model`."""
    params = load_params(PARAMS)
    shutil.copy(PARAMS, "params.yaml")
    write_results(params)
    counted = {"parameters": parameter_count(model.config), "d_ff": model.config.d_ff}
    write_json(training_metrics(RUN), read_json(training_metrics(RUN)) | counted)


def read_card(model: LanguageModel) -> None:
    """As `hub push` does."""
    assert model_card(model, "someone/ncn", RUN)


def read_figures(draw: random.Random) -> None:
    """As `figures` does, one of them."""
    import matplotlib.pyplot as plt

    try:
        drawn(draw.choice(list(DRAWN)), load_params(PARAMS), WIDTH).canvas.draw()
    finally:
        plt.close("all")


REPO = "someone/ncn"


class _Answering(Hub):
    """A hub whose listings are what the files of the present folder say."""

    def find(self, path: str) -> bytes | Refusal:
        if path.startswith("/api/"):
            return Path("tree.json" if "/tree/" in path else "about.json").read_bytes()
        return super().find(path)


def write_answers() -> None:
    """What a hub says of a repository, and of the files in it."""
    about = {"id": REPO, "sha": "0" * 40, "private": False, "siblings": [], "tags": []}
    write_json("about.json", about)
    file = {"type": "file", "path": "config.json", "size": 2, "oid": "0" * 40}
    write_json("tree.json", [file])


def read_answers(draw: random.Random) -> None:
    """As `hub pull` does."""
    shutil.rmtree("cache", ignore_errors=True)
    with (
        serve_hub({("models", REPO, "0" * 40): {"config.json": b"{}"}}) as hub,
        patch.object(huggingface_hub.constants, "HF_HUB_CACHE", str(Path("cache").resolve())),
        patch.dict("os.environ", {"HF_TOKEN": "hf_test", "NO_PROXY": "127.0.0.1"}),
    ):
        hub.__class__ = _Answering
        assert fetch_model(REPO, endpoint=hub.endpoint, others=("*.json",)).is_dir()
