"""The whole graph through DVC, as a user runs it: end to end, varied, compared, shared.

The committed tree is cloned with profiles/smoke.yaml laid over it, so every stage runs for real
on a small experiment.
"""

import hashlib
import importlib
import json
import math
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ncn.commands.profile import apply_profile
from ncn.common.paths import sequence_losses
from ncn.common.tsv import read_tsv
from ncn.corpus.tokenizer import train_tokenizer
from ncn.model import load_model
from ncn.publish.model_card import model_card
from ncn.settings import END_OF_TEXT, Params, Settings, load_params
from ncn.sources.stories import write_stories
from tests.conftest import PARAMS, SHARED
from tests.hub import serve_hub
from tests.pipeline.test_pipeline_definition import STAGES
from tests.project import Project, copied, fresh_clone, isolated

ARMS = ("baseline", "ncn", "ncn_causal")
RUN = 21  # stages of the small project, those of each arm and seed counted
# Not `scaling`, which is of studies alone, nor `adaptation`, as nothing is trained again.
AFTER_EVALUATION = {
    "compare", "robustness", "convergence", "brain_scan", "conditional", "generate", "report",
}  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return isolated(tmp_path_factory.mktemp("home"))


def ran(output: str) -> set[str]:
    """The stages that a command ran, without the seed."""
    started = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running")]
    return {name.rsplit("-", 1)[0] if "@" in name else name for name in started}


@pytest.fixture(scope="module")
def project(
    finished: Project, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Project:
    """A copy of the clone after its first `dvc repro`, committed."""
    return copied(finished, tmp_path_factory.mktemp("project") / "project", environment)


def test_the_arms_stand_side_by_side(project: Project) -> None:
    summary = project.metrics("summary.json")
    assert list(summary) == ["ncn_causal", "ncn", "baseline"]
    assert summary["baseline"]["future_leak"] == summary["ncn_causal"]["future_leak"] == 0
    assert summary["ncn"]["future_leak"] > 0
    arms = project.metrics("compare.json")["arms"]
    assert list(arms["ncn"]["scores"]) == ["as_trained", "causal", "reactive"]
    for arm in ARMS[1:]:
        entry = summary[arm]
        assert entry["delta_ppl_low"] < entry["delta_ppl"] < entry["delta_ppl_high"]
        difference = entry["val_ppl"] - summary["baseline"]["val_ppl"]
        assert entry["delta_ppl"] == pytest.approx(difference)
        assert set(arms[arm]["scores"]) >= {"as_trained", "reactive"}
    assert "reads the future" in project.metrics("compare.json")["in_words"]["ncn"]
    for place in ("report.html", "curves.tsv", "brain_scan/scan.tsv", "train/ncn-1.tsv"):
        assert (project.folder / "plots" / place).stat().st_size > 0


@pytest.mark.parametrize("arm", ARMS)
def test_every_run_has_a_card(project: Project, arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    card = model_card(load_model(f"data/models/{arm}-1"), "someone/ncn", f"{arm}-1")
    val_loss = project.metrics(f"evaluate/{arm}-1.json")["val_loss"]
    assert f"{val_loss:.4f} nats a token" in card
    for words in project.metrics("compare.json")["in_words"].values():
        assert f"- {words}\n" in card
    assert "\n\n\n" not in card


def test_every_arm_scores_the_same_sequences(project: Project) -> None:
    def sequences(arm: str) -> list[str]:
        rows = read_tsv(project.folder / sequence_losses(f"{arm}-1"))
        return [row["sequence"] for row in rows]

    assert sequences("baseline") == sequences("ncn") == sequences("ncn_causal")


def test_a_finished_pipeline_has_nothing_to_do_and_a_clean_tree(project: Project) -> None:
    assert ran(project.run("dvc", "repro")) == set()
    assert project.run("git", "status", "--porcelain") == ""
    assert "identical" in project.run("python", "-m", "ncn", "summary")


def test_a_fresh_clone_sees_that_nothing_changed(project: Project, tmp_path: Path) -> None:
    project.run("git", "clone", "-q", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", project.environment)
    lines = clone.run("dvc", "repro", "--dry", "--allow-missing").splitlines()
    stages = [line for line in lines if line.startswith("Stage")]
    assert len(stages) == RUN
    assert all("didn't change, skipping" in line for line in stages)


def test_a_second_run_from_nothing_makes_the_same_lock(project: Project, tmp_path: Path) -> None:
    project.run("git", "clone", "-q", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", isolated(tmp_path, forked=False))
    # Forced: files in git (metrics, plots) would let a plain repro skip the later stages.
    assert len(ran(clone.run("dvc", "repro", "--force"))) == RUN
    assert clone.lock == project.lock
    assert clone.run("git", "status", "--porcelain") == ""


def test_a_shared_remote_leaves_another_clone_nothing_to_do(
    project: Project, tmp_path: Path
) -> None:
    project.run("dvc", "remote", "add", "--local", "-d", "shared", str(tmp_path / "remote"))
    project.run("dvc", "push")
    project.run("git", "clone", "-q", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", project.environment)
    clone.run("dvc", "remote", "add", "--local", "-d", "shared", str(tmp_path / "remote"))
    clone.run("dvc", "pull")
    assert ran(clone.run("dvc", "repro")) == set()
    assert "identical" in clone.run("python", "-m", "ncn", "summary")


# The others read of these sections what no size may change.
SIZED = {"tune", "train", "adapt", "report"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_every_setting_it_reads_and_no_other(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Run in a copy, in this process, with every read of a setting noted."""
    shutil.copytree(project.folder, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    command = STAGES[stage]["cmd"].split()
    matrix = STAGES[stage].get("matrix", {})
    one = {"seed": ["--seed", "1"], "method": ["--method", "control"]}
    rest = [word for key, words in one.items() if key in matrix for word in words]
    runs = [["--arm", arm, *rest] for arm in ARMS] if matrix else [[]]
    params = load_params("params.yaml")
    owners = {id(getattr(params, name)): f"{name}." for name in Params.model_fields}
    owners[id(params)] = ""
    read: set[str] = set()

    def noted(self: Settings, name: str) -> Any:
        fields = set(type(self).model_fields)
        asked = fields if name == "model_dump" else fields & {name}
        if id(self) in owners:
            read.update(owners[id(self)] + key for key in asked)
        return object.__getattribute__(self, name)

    module = importlib.import_module(command[2])
    monkeypatch.setattr(module, "load_params", lambda: params)
    monkeypatch.setattr(Settings, "__getattribute__", noted)
    for arguments in runs:
        monkeypatch.setattr("sys.argv", [command[2], *arguments])
        module.main()
    no_input = {"saving"} | ({"generate", "brain_scan"} if stage == "train" else set())
    read = {key for key in read if key.split(".")[0] not in no_input}  # they change no result
    if any(key.startswith(("model.", "train.")) for key in read) and stage in SIZED:
        read |= {"at_size", "sizes"}  # laid over these two sections when params.yaml is read
    declared = {param.partition(".${")[0] for param in STAGES[stage]["params"]}
    sections = {param.split(".")[0] for param in declared}
    if stage == "tune":  # nothing is tuned in this project, so little of it is read
        assert {key.split(".")[0] for key in read} <= sections
        return
    assert {key for key in read if "." not in key} == sections
    partly = {param.split(".")[0] for param in declared if "." in param}
    assert {key for key in read if key.split(".")[0] in partly and "." in key} == {
        param for param in declared if "." in param
    }


def test_one_setting_reruns_only_what_depends_on_it_and_the_metrics_show_it(
    finished: Project,
    varied: tuple[Project, str],
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    before = finished.metrics("summary.json")
    experiment, output = varied
    project = copied(experiment, tmp_path / "project", environment)
    # The baseline too: its width restores the parameter count of `ncn`.
    arms = {f"{stage}@{arm}" for stage in ("tune", "train", "evaluate") for arm in ARMS}
    assert ran(output) == arms | AFTER_EVALUATION
    shown = json.loads(project.run("dvc", "metrics", "diff", "--json"))
    change = shown["metrics/summary.json"]["ncn.delta_ppl"]
    assert change["old"] == before["ncn"]["delta_ppl"]
    assert change["new"] == project.metrics("summary.json")["ncn"]["delta_ppl"]
    assert load_params(project.folder / "params.yaml").ncn.hidden == 64
    assert "ncn.delta_ppl" in project.run("dvc", "metrics", "diff")
    project.run("git", "checkout", "params.yaml")
    again = ran(project.run("dvc", "repro"))
    assert again == AFTER_EVALUATION  # none trains
    assert project.metrics("summary.json") == before


def test_a_terminal_of_100_columns_shows_the_experiment_and_its_difference(
    varied: tuple[Project, str],
) -> None:
    experiment, _ = varied
    wide = experiment.run("dvc", "exp", "show")  # its pager chops what is too wide for a terminal
    header, *rows = (line[:100] for line in wide.splitlines() if not line.startswith(" ─"))
    assert "Experiment" in header
    end = header.index("ncn_causal.delta_ppl") + len("ncn_causal.delta_ppl")
    base, changed = (rows[place][:end].split()[-1] for place in (1, -1))
    assert {float(base), float(changed)} != {float(base)}
    chosen = ("--no-pager", "--drop", ".", "--keep", "Experiment|.*delta_ppl$|ncn.hidden$")
    narrow = experiment.run("dvc", "exp", "show", *chosen, COLUMNS="100")
    lines = [line for line in narrow.splitlines() if line.strip(" ─")]
    assert max(map(len, lines)) <= 100
    assert lines[0].split()[:2] == ["Experiment", "ncn_causal.delta_ppl"]
    assert lines[-1].split()[-1] == "64"
    assert "…" not in narrow


def test_a_prompt_that_no_model_can_read_is_refused_before_one_is_trained(
    project: Project,
) -> None:
    settings = project.folder / "params.yaml"
    text = settings.read_text()
    settings.write_text(text.replace("- Once upon", f"- {'Once ' * 60}upon"))
    command = ("python", "-m", "stages.train", "--arm", "ncn", "--seed", "1")
    output = project.run(*command, status=1)
    settings.write_text(text)
    assert output.startswith("error: params.yaml: generate.prompts[0]: 'Once Once")
    assert project.run("git", "status", "--porcelain") == ""


def test_a_setting_that_changes_while_a_stage_runs_is_not_recorded(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    clone = fresh_clone(tmp_path / "project", environment)
    settings = clone.folder / "params.yaml"
    text = settings.read_text()
    assert "  epochs: 0.2" in text
    settings.write_text(text.replace("  epochs: 0.2", "  epochs: 1.5"))
    clone.run("dvc", "repro", "tokenize")
    begun = settings.read_text()
    command = ["dvc", "repro", "train@baseline-1"]
    with subprocess.Popen(
        command, cwd=clone.folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as training:  # fmt: skip
        while not list(clone.folder.glob("plots/train/*.tsv")):
            assert training.poll() is None
            time.sleep(0.05)
        settings.write_text(begun.replace("  lr: 3.0e-3", "  lr: 6.0e-3"))
        output, _ = training.communicate()
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert "train@baseline-1: changed while the stage ran: params.yaml: train was" in line
    assert training.returncode != 0
    assert not (clone.folder / "data/models/baseline-1").exists()
    settings.write_text(begun)
    assert "going on after step" in clone.run(*command)
    assert "lr: 0.003" in clone.lock


def hub_files(folder: Path) -> tuple[bytes, bytes, bytes]:
    """Real TinyStories and GPT-2's vocabulary where shared files are here, else our own."""
    if SHARED.is_dir():
        places = ("tinystories_sample.txt", "gpt2/vocab.json", "gpt2/merges.txt")
        text, vocabulary, merges = ((SHARED / "data" / place).read_bytes() for place in places)
        return text, vocabulary, merges
    stories = list(write_stories(400, 7))
    train_tokenizer(stories, 500, folder)
    text = "".join(f"{story}\n{END_OF_TEXT}\n" for story in stories).encode()
    return text, (folder / "vocab.json").read_bytes(), (folder / "merges.txt").read_bytes()


def test_real_input_goes_from_the_hub_to_the_report(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """The published source and vocabulary, through the real client, from a loopback hub."""
    text, vocabulary, merges = hub_files(tmp_path)
    clone = fresh_clone(tmp_path / "project", environment)
    paper = load_params(PARAMS)
    served = {
        ("datasets", paper.data.hub.repo, paper.data.hub.revision): {
            paper.data.hub.files[0].name: text
        },
        ("models", paper.tokenizer.hub.repo, paper.tokenizer.hub.revision): {
            "vocab.json": vocabulary,
            "merges.txt": merges,
        },
    }

    def pins(files: dict[str, bytes]) -> str:
        return "".join(
            f"      - name: {name}\n        bytes: {len(content)}\n"
            f"        sha256: {hashlib.sha256(content).hexdigest()}\n"
            for name, content in files.items()
        )

    data, tokenizer = served.values()
    (clone.folder / "profiles" / "loopback.yaml").write_text(
        "data:\n  source: tinystories-v2\n  hub:\n    files:\n" + pins(data)
        + "tokenizer:\n  vocabulary: gpt2\n  hub:\n    files:\n" + pins(tokenizer)
        + "split:\n  unit: sequence\ntrain:\n  epochs: 0.02\n"
    )  # fmt: skip
    apply_profile("loopback", clone.folder / "params.yaml", clone.folder / "profiles")
    with serve_hub(served) as hub:
        clone.run("dvc", "repro", HF_ENDPOINT=hub.endpoint)
    meta = json.loads((clone.folder / "data/tokens/meta.json").read_text())
    assert meta["vocab_size"] == len(json.loads(vocabulary))
    assert meta["stories"] == text.decode().count(END_OF_TEXT)
    summary = clone.metrics("summary.json")
    assert all(entry["val_loss"] < math.log(meta["vocab_size"]) for entry in summary.values())
    assert (clone.folder / "plots/report.html").stat().st_size > 0


def test_a_failing_stage_ends_with_one_line_and_no_output(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    clone = fresh_clone(tmp_path / "project", environment)
    (tmp_path / "empty").mkdir()
    settings = ("-S", "data.source=local", "-S", f"data.path={tmp_path / 'empty'}")
    output = clone.run("dvc", "exp", "run", *settings, status=255)
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert str(tmp_path / "empty") in line
    assert "Traceback" not in output
    assert not (clone.folder / "data/raw").exists()


def test_a_file_of_somebodys_in_data_raw_outlives_a_fetch(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    clone = fresh_clone(tmp_path / "project", environment)
    clone.run("dvc", "repro", "download")
    mine = clone.folder / "data/raw/text/mine.txt"
    mine.write_text("mine")
    params = clone.folder / "params.yaml"
    params.write_text(params.read_text().replace("stories: 300 ", "stories: 301 "))
    output = clone.run("dvc", "repro", "download", status=255)
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert "data/raw/text/mine.txt was not fetched by the pipeline" in line
    # An experiment begins with a forced checkout, which deletes what it sees of others.
    clone.run("git", "config", "user.name", "test")
    clone.run("git", "config", "user.email", "test@example.org")
    assert "was not fetched" in clone.run("dvc", "exp", "run", "download", status=255)
    assert mine.read_text() == "mine"
    mine.unlink()
    assert ran(clone.run("dvc", "repro", "download")) == {"download"}
    # Half a pull: no manifest, and a text that DVC's cache has.
    (clone.folder / "data/raw/manifest.json").unlink()
    assert ran(clone.run("dvc", "repro", "download")) == {"download"}
    assert (clone.folder / "data/raw/manifest.json").exists()
