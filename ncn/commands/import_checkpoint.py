"""`python -m ncn import FILE DIRECTORY`: a checkpoint of the published code, as ours."""

import argparse
from pathlib import Path

from ncn.common.errors import InputError
from ncn.model import parameter_count, save_model
from ncn.publish.published_checkpoint import control_network_evidence, import_published, verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path, help="a checkpoint of the published implementation")
    parser.add_argument("directory", type=Path, help="where model.safetensors and config.json go")
    parser.add_argument("--heads", type=int, default=8, help="of the attention (8)")
    parser.add_argument("--pooling-heads", type=int, default=2, help="of the pooling (2)")


def run(arguments: argparse.Namespace) -> None:
    """Print what tells whether the control network was trained, then save the model as ours."""
    if arguments.directory.exists():
        raise InputError(f"{arguments.directory} exists already: name a new directory")
    model = import_published(arguments.file, arguments.heads, arguments.pooling_heads)
    evidence = control_network_evidence(model)
    print(f"{arguments.file}: {parameter_count(model.config):,} parameters")
    for item in evidence.values():
        print(f"  {'differs' if item.differs else 'equal  '}  {item.words}")
    print(verdict(evidence))
    save_model(model, arguments.directory)
    print(f"saved to {arguments.directory}")
