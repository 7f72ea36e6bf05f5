"""README.md and docs/ as the tests read them: commands, and the output that is shown."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run by tests: (.+) -->\n$")
NUMBER = re.compile(r"\d[\d.,]*")


@dataclass(frozen=True)
class Block:
    """Commands in a row, why they are not run (None: they are), and the output that follows."""

    commands: tuple[str, ...]
    not_run: str | None
    shown: tuple[str, ...]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The blocks of a page that are bash, in order."""
    text = text_of(page)
    fences = list(FENCE.finditer(text))
    found = []
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence[1] == "bash":
            reason = NOT_RUN.search(text[: fence.start()])
            shown = following[2].splitlines() if following and following[1] == "text" else []
            found.append(Block(commands_of(fence[2]), reason and reason[1], tuple(shown)))
    return found


def commands_of(block: str) -> tuple[str, ...]:
    """One command a line, where no backslash continues it; comments are none."""
    lines = block.replace("\\\n", " ").splitlines()
    return tuple(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def shape(line: str) -> str:
    """A line of output without its figures and columns."""
    return " ".join(NUMBER.sub("N", line).split())


def is_shown(line: str, output: str) -> bool:
    """Whether `output` has a line of this shape; what `...` ends may go on."""
    wanted = shape(line)
    there = [shape(each) for each in output.splitlines()]
    if wanted.endswith("..."):
        return any(each.startswith(wanted.removesuffix("...")) for each in there)
    return wanted in there


def tree_map() -> dict[str, str]:
    """What docs/extending.md says of each part of ncn/, by its name."""
    listed = re.search(r"^ncn/\n((?:  .*\n)+)", text_of("docs/extending.md"), re.MULTILINE)
    assert listed, "docs/extending.md has no map of ncn/"
    lines = [line.split(maxsplit=1) for line in listed[1].splitlines()]
    return {name.rstrip("/"): words for name, words in lines}


def parts_of_ncn() -> list[Path]:
    """The rooms of ncn/, and the modules beside them."""
    rooms = [folder for folder in (ROOT / "ncn").iterdir() if (folder / "__init__.py").is_file()]
    modules = [file for file in (ROOT / "ncn").glob("*.py") if not file.stem.startswith("__")]
    return [*rooms, *modules]
