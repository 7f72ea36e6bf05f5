"""Studies: planned first, run through DVC's queue, frozen in git, checked by running them again.

python -m ncn study list
python -m ncn study run NAME [--size SIZE] [--workers N]
python -m ncn study freeze NAME
python -m ncn study check NAME [--size SIZE]
"""

import argparse

from ncn.common.errors import InputError
from ncn.studies.freeze import check, freeze, write_result
from ncn.studies.plan import Study, names, read_study
from ncn.studies.queue import run_sizes
from ncn.studies.tools import head


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("action", choices=("list", "run", "freeze", "check"))
    parser.add_argument("name", nargs="?", metavar="NAME", help="a folder of studies/")
    parser.add_argument("--size", help="one of its sizes; all where not given")
    parser.add_argument("--workers", type=int, default=1, help="sizes that run at once (1)")


def run(arguments: argparse.Namespace) -> None:
    """List the studies; or run, freeze or check one."""
    if arguments.action == "list":
        print("\n".join(map(in_a_line, map(read_study, names()))) or "there is no study yet")
        return
    head()  # all else needs git
    if arguments.name is None:
        raise InputError(f"study {arguments.action} needs a NAME; there are {', '.join(names())}")
    study = read_study(arguments.name)
    if arguments.size not in (None, *study.sizes):
        raise InputError(
            f"{study.name} has no size {arguments.size!r}; there are {', '.join(study.sizes)}"
        )
    sizes = [arguments.size] if arguments.size else study.sizes
    match arguments.action:
        case "run":
            missing = [size for size in sizes if not study.frozen(size).exists()]
            run_sizes(study, missing, arguments.workers)
            print(f"{study.name}: all has run; keep it: python -m ncn study freeze {study.name}")
        case "freeze":
            for size in sizes:
                folder = freeze(study, size)
                print(f"{size}: {'has not run' if folder is None else f'is in {folder}'}")
            write_result(study)
        case "check":
            frozen = [size for size in sizes if study.frozen(size).exists()]
            for size in frozen or sizes[:1]:  # where none is, the first says so
                print(f"{study.name}, size {size}, run again: {check(study, size)}")


def in_a_line(study: Study) -> str:
    """A study and which of its sizes are frozen."""
    sizes = (f"{s} ({'frozen' if study.frozen(s).exists() else 'not run'})" for s in study.sizes)
    return f"{study.name}: {', '.join(sizes)}"
