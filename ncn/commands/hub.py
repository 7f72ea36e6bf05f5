"""`python -m ncn hub push RUN_DIRECTORY OWNER/NAME`, `... pull OWNER/NAME`."""

import argparse
from pathlib import Path

from ncn.common.paths import TOKENIZER
from ncn.model import load_model, parameter_count
from ncn.publish.hub import fetch_model, push_to_hub


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    commands = parser.add_subparsers(dest="command", required=True)
    push = commands.add_parser("push", help="publish data/models/ARM-SEED")
    push.add_argument("directory", type=Path, help="data/models/ARM-SEED; the name finds metrics/")
    push.add_argument("repo", help="OWNER/NAME, made where it does not exist")
    push.add_argument("--tokenizer", type=Path, default=TOKENIZER, help=f"({TOKENIZER})")
    push.add_argument("--private", action="store_true", help="only where others cannot read")
    push.add_argument("--message", default="Model, tokenizer and model card", help="of the commit")
    pull = commands.add_parser("pull", help="download, check, and print the directory")
    pull.add_argument("repo", help="OWNER/NAME")
    pull.add_argument("--revision", help="branch, tag or commit (main)")


def run(arguments: argparse.Namespace) -> None:
    """Publish the model of a run with its tokenizer and card, or fetch a published one."""
    if arguments.command == "pull":
        directory = fetch_model(arguments.repo, revision=arguments.revision)
        load_model(directory)
        print(directory)
        return
    model = load_model(arguments.directory)
    print(f"{arguments.directory}: {parameter_count(model.config):,} parameters")
    url = push_to_hub(
        model,
        arguments.repo,
        run=arguments.directory.resolve().name,
        tokenizer=arguments.tokenizer,
        private=arguments.private,
        message=arguments.message,
    )
    print(f"published at {url}")
