"""Remove what runs that params.yaml no longer names, and kills, left; say what.

python -m ncn tidy [--dry-run]
"""

import argparse

from ncn.common.dvc_cache import why_unknown
from ncn.common.leftovers import remove_half_written, remove_unnamed
from ncn.common.scratch import is_locked, scratch
from ncn.settings import load_params
from ncn.training.states import unfinished

NO_COPY = "DVC's cache has no copy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--dry-run", action="store_true", help="say it, and remove nothing")


def run(arguments: argparse.Namespace) -> None:
    """Remove runs that params.yaml does not name: models and scores that DVC's cache holds, copies.

    And what a kill left half written, if nobody has touched it for an hour.

    `dvc checkout` brings models and scores back where params.yaml names them again.
    """
    params = load_params()
    removed, kept = remove_unnamed(params.arms, params.seeds, dry=arguments.dry_run)
    half_removed, half_kept = remove_half_written(dry=arguments.dry_run)
    would = "would be removed" if arguments.dry_run else "removed"
    for place in (*removed, *half_removed):
        print(f"{would}: {place}")
    unknown = why_unknown() if kept else None
    why = f"DVC cannot say what its cache holds ({unknown})" if unknown else NO_COPY
    for place in kept:
        print(f"kept: {place}: {why}; if it is not needed, rm -r {place}")
    for place in half_kept:
        print(f"kept: {place}: half written, perhaps now: it goes once an hour has passed")
    for state in unfinished(scratch()):
        doing = "trains now" if state.trains else f"if it is not needed, rm -r {state.folder}"
        print(f"kept: {state.folder}: step {state.step:,}, {state.size / 1e6:.0f} MB; {doing}")
    for folder in sorted(scratch().glob("tokenize-*")):
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        doing = "tokenizes now" if is_locked(folder / "lock") else f"rm -r {folder}"
        print(f"kept: {folder}: {size / 1e6:.0f} MB of token ids, unfinished; {doing}")
    if not (removed or kept or half_removed or half_kept):
        print("nothing is there that params.yaml does not name, and nothing half written")
