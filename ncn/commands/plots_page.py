"""`python -m ncn plots-page`: the page into which `dvc plots show` writes."""

import argparse

from ncn.common.files import write_text
from ncn.report.vega import PLOTS_PAGE, plots_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: nothing."""


def run(arguments: argparse.Namespace) -> None:
    """Write the page of `dvc plots show` anew from the pinned packages."""
    write_text(PLOTS_PAGE, plots_page())
