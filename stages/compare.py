"""The scored arms -> their differences.

In:  plots/evaluate/ARM-SEED.tsv, metrics/evaluate/ARM-SEED.json, metrics/train/ARM-SEED.json.
Out: metrics/summary.json (what `dvc metrics diff` shows), metrics/compare.json (in words).
"""

from ncn.artifacts import COMPARISON, SUMMARY
from ncn.comparison import in_words, read_losses, summarise
from ncn.config import load_params
from ncn.errors import run_command
from ncn.files import write_json


def main() -> None:
    """Compare every arm and seed that params.yaml names; read no other."""
    params = load_params()
    arms, seeds = list(params.arms), params.seeds
    summary = summarise(arms, seeds, params.eval.bootstrap, params.seed)
    n_sequences = len(read_losses(arms[0], seeds)[1])
    words = {arm: in_words(arm, entry, n_sequences, len(seeds)) for arm, entry in summary.items()}
    write_json(SUMMARY, summary)
    write_json(
        COMPARISON,
        {"sequences": n_sequences, "seeds": seeds, "in_words": words},
    )
    print("\n".join(words.values()))


if __name__ == "__main__":
    run_command(main)
