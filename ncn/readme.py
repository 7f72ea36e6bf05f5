"""`python -m ncn.readme`: write the figures of README.md anew from metrics/.

What stands between `<!-- result -->` and `<!-- /result -->` is made here, so that no number of
the README is typed; a test compares the two.
"""

import re
from pathlib import Path

from ncn.artifacts import COMPARISON, SUMMARY, evaluation_metrics, run_name
from ncn.config import load_params
from ncn.errors import InputError, run_command
from ncn.files import read_json, write_text
from ncn.summary import difference, sees_the_future

README = Path("README.md")
BLOCK = re.compile(r"(?<=<!-- result -->\n).*?(?=<!-- /result -->)", re.DOTALL)


def result() -> str:
    """The arms side by side as a Markdown table, and the same in words."""
    summary, comparison = read_json(SUMMARY), read_json(COMPARISON)
    seeds = comparison["seeds"]
    lines = [
        "| arm | loss | perplexity | difference to the baseline | parameters | FLOPs/token"
        " | sees the future? | scored reactively |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm, entry in summary.items():
        reactive = f"{entry['val_ppl_reactive']:.4f}" if "val_ppl_reactive" in entry else "–"
        cells = [
            f"`{arm}`",
            f"{entry['val_loss']:.4f}",
            f"{entry['val_ppl']:.4f}",
            difference(entry) or "–",
            f"{entry['parameters']:,}",
            f"{entry['flops_per_token']:,}",
            sees_the_future(entry),
            reactive,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    yardsticks = read_json(evaluation_metrics(run_name(next(iter(summary)), seeds[0])))[
        "yardsticks"
    ]
    named = ", ".join(f"{name} {value:.3f}" for name, value in yardsticks.items())
    lines += [
        "",
        f"Loss in nats a token, on the same {comparison['sequences']:,} validation sequences for"
        f" every arm, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}; differences with their"
        f" 95 % bootstrap interval, paired. For scale, counts alone reach: {named} nats.",
        "",
        *(f"- {words}" for words in comparison["in_words"].values()),
    ]
    source = load_params().data.source
    if source != "tinystories-v2":
        lines += [
            "",
            f"This run used `data.source: {source}`, not TinyStories: it shows that the pipeline"
            " works, and nothing about the published figure.",
        ]
    return "\n".join(lines) + "\n"


def filled(readme: str) -> str:
    """The README's text with its figures made anew."""
    if not BLOCK.search(readme):
        raise InputError(f"{README}: no block from <!-- result --> to <!-- /result -->")
    return BLOCK.sub(lambda _: result(), readme)


def main() -> None:
    """Rewrite README.md in place."""
    write_text(README, filled(README.read_text(encoding="utf-8")))


if __name__ == "__main__":
    run_command(main)
