"""Every command of README.md and docs/ runs, page by page, in a small clone of the project.

Each page has a copy of the clone after its first `dvc repro`, with a bare repository as `origin`, a
folder for a DVC remote and a hub on the loopback interface.
"""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from ncn.__main__ import COMMANDS
from ncn.settings import read_yaml
from tests.conftest import PARAMS, ROOT
from tests.docs.pages import PAGES, blocks, is_shown, parts_of_ncn, text_of, tree_map
from tests.hub import serve_hub
from tests.pipeline.rooms import ROOMS
from tests.project import Project, copied, isolated
from tests.publish.test_published_checkpoint import published_weights

# Each block that is not run, by its first command. More of them would be pages that nobody checks.
NOT_RUN = {
    "README.md": ["make test"],
    "docs/conditional.md": ["python -m ncn benchmark skipping"],
    "docs/adaptation.md": ["python -m ncn profile adaptation", "python -m ncn profile pilot"],
    "docs/mechanisms.md": ["python -m ncn profile mechanisms"],
    "docs/text.md": ["dvc config --local cache.type"],
    "docs/studies.md": ["dvc exp run -S 'tune.lr=", "python -m ncn study run"],
    "docs/models.md": ["pip install -c"],
    "docs/machines.md": [
        "make bench",
        "python -m ncn profile paper",
        "dvc exp run -S train.processes=2",
        "TORCH_DISABLE_SHARE_",
        "source .venv",
        "source .venv",
    ],
}
STORY = "Once upon a time, there was a cat. The cat saw a big dog, but it was not afraid. "


@pytest.fixture(scope="module")
def outcomes(
    finished: Project, varied: tuple[Project, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """What became of each page: a line for each command that failed or printed something else."""
    environment = isolated(tmp_path_factory.mktemp("home"))
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "test", f"GIT_{role}_EMAIL": "test@example.org"}
    done = copied(finished, tmp_path_factory.mktemp("done") / "project", environment)
    # The experiment of docs/running.md finds its models: test_pipeline.py shows what it runs.
    add_files(varied[0].folder / ".dvc/cache", done.folder / ".dvc/cache")
    with serve_hub() as hub, ThreadPoolExecutor(2) as pool:
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_test", "NO_PROXY": "127.0.0.1"}
        longest_first = sorted(PAGES, key=lambda page: -text_of(page).count("dvc exp run"))
        folders = {page: tmp_path_factory.mktemp("page") for page in PAGES}
        yield {
            page: pool.submit(run_page, page, prepared(done, folders[page], environment))
            for page in longest_first
        }


def add_files(source: Path, target: Path) -> None:
    """Copy the files that `target` has not; those that it has may be read-only."""
    for file in source.rglob("*"):
        copy = target / file.relative_to(source)
        if file.is_file() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)


def prepared(done: Project, folder: Path, environment: dict[str, str]) -> Project:
    """A copy of the finished clone, with an origin, and with the files that pages speak of."""
    clone = copied(done, folder / "project", environment)
    clone.run("git", "init", "-q", "--bare", str(folder / "origin.git"))
    clone.run("git", "remote", "add", "origin", str(folder / "origin.git"))
    clone.run("git", "push", "-q", "origin", "HEAD")
    (clone.folder / ".venv").mkdir()
    (clone.folder / ".venv/.installed").touch()  # for make: these packages are those of the lock
    (clone.folder / "story.txt").write_text(10 * STORY)
    (clone.folder / "prompts.txt").write_text("Once upon a time\nThe dog\n")
    (clone.folder / "stories").mkdir()
    shutil.copy(next((clone.folder / "data/raw/text").iterdir()), clone.folder / "stories/mine.txt")
    torch.save({"model_state_dict": published_weights()}, clone.folder / "FILE.pt")
    return clone


def run_page(page: str, clone: Project) -> str:
    """Run the blocks of a page in order; what went wrong first, or nothing."""
    places = {
        "URL": str(clone.folder.parent / "origin.git"),
        "/path/to/folder": str(clone.folder.parent / "shared"),
    }
    for block in blocks(page):
        printed = ""
        for command in block.commands if block.not_run is None else ():
            script = re.sub("|".join(places), lambda found: places[found[0]], command)
            done = subprocess.run(
                ["bash", "-ec", script], cwd=clone.folder, env=clone.environment, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                check=False,
            )  # fmt: skip
            printed += done.stdout
            if done.returncode:
                return f"{page}: {command!r} ends with {done.returncode}:\n{done.stdout}"
        if missing := [line for line in block.shown if not is_shown(line, printed)]:
            return f"{page}: {block.commands} print no line like {missing[0]!r}:\n{printed}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(outcomes: dict[str, Future[str]], page: str) -> None:
    assert outcomes[page].result() == ""


def test_what_is_not_run_says_why_and_is_little() -> None:
    found = {page: [block for block in blocks(page) if block.not_run is not None] for page in PAGES}
    assert {page for page in PAGES if found[page]} == set(NOT_RUN)
    for page, starts in NOT_RUN.items():
        for block, start in zip(found[page], starts, strict=True):
            assert block.commands[0].startswith(start)
            assert len((block.not_run or "").split()) >= 3


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_only_what_exists(page: str) -> None:
    text = text_of(page)
    for name in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / name).exists(), name
    for command in re.findall(r"python -m ncn ([a-z][\w-]*)", text):
        assert command in COMMANDS, command
    params = read_yaml(PARAMS)
    for section, key in re.findall(rf"[`' ]({'|'.join(params)})\.(\w+)[`:=]", text):
        assert key in params[section], f"{section}.{key}"
    for path in re.findall(r"`((?:ncn|stages|kernels|tests|profiles)/[\w./]+)`", text):
        if "NAME" not in path:
            assert (ROOT / path).exists(), path


def test_pages_are_short() -> None:
    """One screen or two; the README without what studies found and its result."""
    result = re.compile(r"<!-- (result|studies) -->.*?<!-- /\1 -->", re.DOTALL)
    lengths = {page: len(result.sub("", text_of(page)).splitlines()) for page in PAGES}
    assert lengths.pop("README.md") <= 85
    assert {page: length for page, length in lengths.items() if length > 110} == {}


def test_the_map_is_the_tree_with_its_docstrings() -> None:
    real = {}
    for part in parts_of_ncn():
        file = part / "__init__.py" if part.is_dir() else part
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        real[part.name] = (docstring or "").splitlines()[0]
    order = [name for room in ROOMS for name in (room, f"{room}.py") if name in real]
    expected = {name: real[name] for name in order}
    assert list(tree_map().items()) == list(expected.items())


def test_no_command_is_hidden_from_these_tests() -> None:
    """A block of commands is marked bash; a prompt sign before a command would not be run."""
    for page in PAGES:
        assert not re.search(r"^```(sh|shell|console|zsh)$", text_of(page), re.MULTILINE), page
        assert not re.search(r"^\$ ", text_of(page), re.MULTILINE), page


def test_the_pages_are_linked_from_the_readme() -> None:
    assert {page for page in PAGES if page != "README.md"} <= set(
        re.findall(r"\]\((docs/\w+\.md)\)", text_of("README.md"))
    )
