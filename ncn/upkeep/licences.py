"""Write LICENCES.md: under which licence each locked package stands, by its own word.

python -m ncn licences
"""

import argparse
from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import cast

from packaging.requirements import Requirement

from ncn.common.files import write_text
from ncn.common.paths import REQUIREMENTS
from ncn.upkeep.lock import locked

LICENCES = Path("LICENCES.md")
LONGEST = 60  # characters: some packages have a licence's whole text where its name should stand
HEAD = """# Licences of the locked packages

What each package of `requirements.lock` says of itself, where it is installed: written by
`make licences`, not by hand. None of them is part of this repository, whose own licence is in
`LICENSE`. A GPU build of torch also brings NVIDIA's CUDA libraries, under NVIDIA's terms.

| package | version | licence |
|---|---|---|
"""


def licence_of(package: Message) -> str:
    """The licence in a package's metadata: its expression, else its classifiers, else its words."""
    words = str(package.get("License") or "").strip()
    names = [
        value.rpartition(" :: ")[2]
        for value in package.get_all("Classifier", [])
        if value.startswith("License :: ") and value != "License :: OSI Approved"
    ]
    if expression := package.get("License-Expression"):
        return str(expression)
    stated = ", ".join(names) or words.partition("\n")[0]
    return stated if 0 < len(stated) <= LONGEST else "see its files"


def table(wanted: list[Requirement]) -> str:
    """LICENCES.md: a row for each package that is installed, the others by name below."""
    rows, absent = [], []
    for each in wanted:
        version = str(each.specifier).removeprefix("==")
        try:
            licence = licence_of(cast(Message, metadata(each.name)))
        except PackageNotFoundError:
            absent.append(f"{each.name} {version}")
            continue
        rows.append(f"| {each.name} | {version} | {licence} |\n")
    below = f"\nOf other systems and Pythons, so not looked at: {', '.join(absent)}.\n"
    return HEAD + "".join(rows) + (below if absent else "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: nothing."""


def run(arguments: argparse.Namespace) -> None:
    """Write LICENCES.md anew from what requirements.lock names and what is installed."""
    write_text(LICENCES, table(locked(REQUIREMENTS)))
