"""Training survives being killed: a short campaign. The long one: python -m tests.kill_campaign."""

import os
import signal
import subprocess
import time
from pathlib import Path

from ruamel.yaml import YAML

from tests.kill_campaign import Campaign, plan, processes
from tests.project import Project, fresh_clone, isolated


def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=2659)  # every signal, victim and moment among the six
    for mode, kills in plan(6, ["repro", "exp run"], campaign.random).items():
        campaign.run(mode, kills)
    print(campaign.report())
    assert campaign.problems == []
    assert campaign.compared >= 2
    assert len(campaign.rows) == 6


TRAIN = ("python", "-m", "stages.train", "--arm", "ncn", "--seed", "1")


def kill_once(project: Project, victim: str, number: signal.Signals) -> tuple[int, str]:
    """Train in two processes; after their first save kill the launcher, or one of its ranks."""
    before = set(project.folder.glob(".scratch/*/*.pt"))
    output = project.folder.parent / "output"
    with open(output, "w") as file:
        launcher = subprocess.Popen(
            TRAIN, cwd=project.folder, env=project.environment, stdout=file, stderr=file
        )
        while set(project.folder.glob(".scratch/*/*.pt")) <= before and launcher.poll() is None:
            time.sleep(0.01)
        ranks = [pid for pid in processes(project.folder) if pid != launcher.pid]
        os.kill(launcher.pid if victim == "launcher" else max(ranks), number)
        status = launcher.wait(timeout=120)
    deadline = time.monotonic() + 60
    while processes(project.folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(project.folder) == {}
    return status, output.read_text()


def test_two_processes_killed_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    project = fresh_clone(tmp_path / "project", isolated(tmp_path / "home", forked=False))
    path = project.folder / "params.yaml"
    params = YAML().load(path)
    params["train"].update({"processes": 2, "epochs": 0.4})
    params["saving"]["every_steps"] = 10
    YAML().dump(params, path)
    project.run("dvc", "repro", "tune@ncn")
    outputs = ("data/models/ncn-1/model.safetensors", "data/models/ncn-1/log.tsv")

    project.run(*TRAIN)
    undisturbed = [(project.folder / name).read_bytes() for name in outputs]
    project.run("rm", "-r", ".scratch", "data/models", "plots/train")

    status, output = kill_once(project, "launcher", signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert "the same command goes on from step" in output.splitlines()[-1]
    status, output = kill_once(project, "rank", signal.SIGKILL)
    assert status == 0  # torchrun starts both again
    assert output.count("going on after step") >= 1
    assert [(project.folder / name).read_bytes() for name in outputs] == undisturbed
