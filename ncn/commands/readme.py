"""`python -m ncn readme`: write the blocks of README.md anew: what studies found, and the result.

They are made from studies/, metrics/ and dvc.lock, which are committed beside them, and from
nothing else: a test makes them from the last commit's files and compares. The prose around is left
alone.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncn.commands.summary import difference, sees_the_future
from ncn.common.errors import InputError
from ncn.common.files import as_written, write_text
from ncn.common.paths import CLAIMS, COMPARISON, SUMMARY, evaluation_metrics, run_name
from ncn.settings.yaml12 import parse_yaml
from ncn.statistics.scores import other_score
from ncn.studies.headline import Read, headline

README, DVC_LOCK = Path("README.md"), Path("dvc.lock")


def here(path: Path) -> str | None:
    """The text of a file as it lies here."""
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


def block(read: Read = here) -> str:
    """The arms side by side as a Markdown table, and the same in words.

    Raises:
        InputError: a file is missing, or is of another pipeline.
    """
    with as_written("metrics/", DVC_LOCK):
        return _block(read)


def _block(read: Read) -> str:
    summary, comparison = _json(read, SUMMARY), _json(read, COMPARISON)
    seeds = comparison["seeds"]
    lines = [
        "| arm | loss | perplexity | difference to the baseline | parameters | FLOPs/token"
        " | sees the future as trained? | perplexity as trained | reactively |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, mine in comparison["arms"].items():
        entry = summary[arm]
        others = (other_score(mine["scores"], form) for form in ("as_trained", "reactive"))
        cells = [
            f"`{arm}`",
            f"{entry['val_loss']:.4f}",
            f"{entry['val_ppl']:.4f}",
            difference(entry) or "–",
            f"{mine['parameters']:,}",
            f"{mine['flops_per_token']:,}",
            sees_the_future(entry),
            *("–" if ppl is None else f"{ppl:.4f}" for ppl in others),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    first = evaluation_metrics(run_name(next(iter(comparison["arms"])), seeds[0]))
    yardsticks = _json(read, first)["yardsticks"]
    named = ", ".join(f"{name} {value:.3f}" for name, value in yardsticks.items())
    lines += [
        "",
        f"Loss in nats a token, on the same {comparison['sequences']:,} validation sequences for"
        f" every arm, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, as a language model: an arm"
        " trained with later tokens in view is scored on the history alone. Differences with their"
        f" 95 % bootstrap interval, paired{', of these checkpoints' if len(seeds) < 2 else ''}. For"
        f" scale, counts alone reach: {named} nats.",
        "",
        *(f"- {words}" for words in _first_words(comparison)),
    ]
    if read(CLAIMS) is not None:
        verdicts = Counter(claim["verdict"] for claim in _json(read, CLAIMS)["claims"])
        counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
        lines += ["", f"The preprint's claims, counted for each arm: {counts}."]
    lock = parse_yaml(_text(read, DVC_LOCK))
    source = lock["stages"]["download"]["params"]["params.yaml"]["data"]["source"]
    if source != "tinystories-v2":
        lines += [
            "",
            f"This run used `data.source: {source}`, not TinyStories: it shows that the pipeline"
            " works, and nothing about the published figure.",
        ]
    return "\n".join(lines) + "\n"


def _first_words(comparison: Mapping[str, Any]) -> list[str]:
    """What there is to say of the primary endpoint; of every arm where none was declared."""
    words: dict[str, str] = comparison["in_words"]
    primary = comparison["primary"]
    return [words[primary]] if primary in words else list(words.values())


def _text(read: Read, path: Path) -> str:
    if (text := read(path)) is None:
        raise InputError(f"{path} does not exist: run `dvc repro`, or `dvc pull`")
    return text


def _json(read: Read, path: Path) -> Any:
    try:
        return json.loads(_text(read, path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def filled(readme: str, read: Read = here) -> str:
    """The README's text with its blocks made anew."""
    for name, made in {"studies": headline, "result": block}.items():
        place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        if not place.search(readme):
            raise InputError(f"{README}: no block from <!-- {name} --> to <!-- /{name} -->")
        text = made(read)
        readme = place.sub(lambda _, text=text: text, readme)  # type: ignore[misc]
    return readme


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: nothing."""


def run(arguments: argparse.Namespace) -> None:
    """Write the blocks of README.md anew."""
    write_text(README, filled(README.read_text(encoding="utf-8")))
