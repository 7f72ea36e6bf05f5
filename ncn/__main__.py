"""`python -m ncn COMMAND`: what the project offers beside `dvc repro`."""

import ncn.common.before_torch  # noqa: F401 isort: skip (before what takes long)

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from ncn.common.errors import InputError, explain_while_loading, run_command

# Each is a module with `add_arguments(parser)` and `run(arguments)`, of ncn.commands where MODULES
# does not say where. The words stand here, so that the help need not load them all.
COMMANDS = {
    "profile": "lay profiles/NAME.yaml over params.yaml; what changes, what training will take",
    "summary": "the arms side by side, the times, and how this run compares with the committed one",
    "study": "list, run, freeze or check a study: several sizes, planned before they run",
    "generate": "continue a prompt, or each of a file, with a trained model",
    "score": "the loss, perplexity and bits a byte of a text under a trained model",
    "hub": "publish a trained model with its card, or fetch a published one",
    "import": "judge and convert a checkpoint of the published code; nothing in it is executed",
    "benchmark": "measure what control and kernels cost on this machine",
    "figures": "draw the figures of plots/figures for a paper: SVG, PNG or PDF of any width",
    "experiments": "a line for each experiment: what it changed, and the difference it found",
    "accept": "record edits that changed only words, so that nothing runs again for them",
    "tidy": "remove models, scores and curves of runs that params.yaml no longer names",
    "licences": "write LICENCES.md: the licence of each locked package",
    "audit": "look for known vulnerabilities of the locked packages",
    "doctor": "check this machine, environment and folder; say what to do where something is wrong",
    "readme": "write the result of README.md anew from metrics/",
    "plots-page": "write the page of `dvc plots show` anew from the pinned packages",
}
MODULES = {
    "import": "commands.import_checkpoint",
    "plots-page": "commands.plots_page",
    "tidy": "upkeep.tidy",
    "experiments": "upkeep.experiments",
    "accept": "upkeep.accept",
    "licences": "upkeep.licences",
    "audit": "upkeep.audit",
    "doctor": "upkeep.doctor",
}


def usage() -> str:
    """The help: every command with what it does."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {words}" for name, words in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m ncn COMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            "python -m ncn COMMAND --help says more of one. The pipeline itself: dvc repro.",
        ]
    )


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """See the base class."""
        raise InputError(f"{message}: see {self.prog} --help")


def loaded(name: str) -> ModuleType | None:
    """The module of a command; None where there is no such command."""
    place = MODULES.get(name, f"commands.{name}")
    return import_module(f"ncn.{place}") if name in COMMANDS else None


def unknown(name: str) -> InputError:
    """What is said of a command that does not exist: the nearest one, or all."""
    nearest = get_close_matches(name, COMMANDS, n=1)
    advice = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(COMMANDS)}"
    return InputError(f"no command {name!r}: {advice}")


def run(name: str, command: ModuleType | None, arguments: Sequence[str]) -> None:
    """Run a command; without a name, or with --help, print the help."""
    if name in ("-h", "--help", "help"):
        print(usage())
        return
    if command is None:
        raise unknown(name)
    parser = Parser(prog=f"python -m ncn {name}", description=command.run.__doc__)
    command.add_arguments(parser)
    command.run(parser.parse_args(arguments))


def main() -> None:
    """Load the command that is named first, while an interrupt still ends it, and run it."""
    explain_while_loading()
    name, *arguments = sys.argv[1:] or ["--help"]
    command = loaded(name)
    run_command(lambda: run(name, command, arguments))


if __name__ == "__main__":
    main()
