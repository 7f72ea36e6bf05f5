"""The code as the tests see it: files, what they import, and the order of the rooms."""

import ast
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

PACKAGES = ("ncn", "stages", "kernels")
# A room uses itself and those before it. The ground first; what people call comes last.
ROOMS = (
    "common", "code_at_start", "signals", "settings", "published", "statistics", "sources", "text",
    "corpus", "layers", "control", "model",
    "generation", "training", "monitoring", "scoring", "adaptation", "scan", "conditional",
    "analysis", "figures",
    "claims", "report", "publish", "benchmark", "studies", "commands", "upkeep", "__main__",
)  # fmt: skip
# Declared by no stage, and why: an edit there cannot change a number.
UNDECLARED = {
    "common": "how files appear, what is said and shown, when to stop: no value is made here",
    "code_at_start": "digests of code, which decide whether a stage may write, and no value",
    "settings": "values reach a stage as params.yaml says them, and those its stage declares; but"
    " for OVERLAY",
    "monitoring": "words for people about a training: what it will take, how its model writes",
}
# Those of them that look at models: tests/monitoring holds that they change none.
WATCHING = {"monitoring"}

# How settings are laid over each other: declared by the stages that make models of them.
OVERLAY = Path("ncn/settings/sizes.py")


def modules() -> list[Path]:
    """Every file of ours, from the project's root."""
    return sorted(
        file.relative_to(ROOT) for package in PACKAGES for file in (ROOT / package).rglob("*.py")
    )


def room_of(file: Path) -> str:
    """The room of a file of ncn/: its folder, or the file itself beside them."""
    return file.parts[1] if len(file.parts) > 2 else file.stem


def file_of(module: str) -> Path | None:
    """The file of a module or package; None where it is none of ours."""
    place = Path(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if (ROOT / file).is_file():
            return file
    return None


@cache
def named_by(file: Path) -> frozenset[str]:
    """The modules that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if file_of(name)}
            names |= modules or {node.module}
            names |= {node.module} if len(modules) < len(inner) else set()
    return frozenset(names)


@cache
def imported_by(file: Path) -> frozenset[Path]:
    """Our files that a file imports."""
    ours = (name for name in named_by(file) if name.split(".")[0] in PACKAGES)
    return frozenset(found for name in ours if (found := file_of(name)))


def closure(file: Path) -> set[Path]:
    """A file and all of ours that it runs, but for what lies in UNDECLARED and beyond."""
    found: set[Path] = set()
    waiting = {file}
    while waiting:
        file = waiting.pop()
        if file.parts[0] == "ncn" and room_of(file) in UNDECLARED:
            continue
        found.add(file)
        fronts = {folder / "__init__.py" for folder in file.parents if len(folder.parts) > 1}
        waiting |= (set(imported_by(file)) | fronts) - found
    return found
