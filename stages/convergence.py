"""The training logs -> how fast each arm learned, and whether it still does.

In:  plots/train/ARM-SEED.tsv, data/reference/run_1.tsv (the series of the published run).
Out: metrics/convergence.json, plots/curves.tsv (long form).
"""

from ncn.artifacts import CONVERGENCE, CURVES, PUBLISHED_RUN, run_name, training_log
from ncn.charts import PUBLISHED
from ncn.config import load_params
from ncn.convergence import analyse, in_words, long_form, read_curve
from ncn.errors import run_command
from ncn.files import write_json, write_tsv

PUBLISHED_TOKENS_PER_STEP = 64 * 512  # sequences, context length


def main() -> None:
    """Analyse every arm and seed that params.yaml names, and the published run; read no other."""
    params = load_params()
    settings = params.convergence
    rows, summaries, words = [], {}, {}
    for arm in params.arms:
        ends = []
        for seed in params.seeds:
            run = run_name(arm, seed)
            curve = read_curve(training_log(run))
            end, summaries[run] = analyse(curve, settings)
            rows += long_form(arm, str(seed), curve, end)
            ends.append(end)
        words[arm] = in_words(ends)

    published = read_curve(PUBLISHED_RUN, PUBLISHED_TOKENS_PER_STEP)
    end, published_summary = analyse(published, settings)
    rows += long_form(PUBLISHED, "-", published, end)
    words[PUBLISHED] = in_words([end])

    write_tsv(CURVES, rows)
    write_json(CONVERGENCE, {"runs": summaries, "published run 1": published_summary})
    print("\n".join(f"{arm}: {status} nats per 1,000 steps" for arm, status in words.items()))


if __name__ == "__main__":
    run_command(main)
