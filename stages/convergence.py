"""The training logs -> how fast each arm learned, and whether it still does.

In:  plots/train/ARM-SEED.tsv, data/reference/run_1.tsv (the series of the published run).
Out: metrics/convergence.json, plots/curves.tsv (long form), plots/figures/{curves,convergence}.*.
"""

from ncn.analysis.training_logs import analyse_log, by_arm, in_words
from ncn.common.errors import InputError, run_command
from ncn.common.files import write_json
from ncn.common.paths import CONVERGENCE, CURVES, PUBLISHED_RUN, run_name, training_log
from ncn.common.tsv import write_tsv
from ncn.figures.convergence import draw_convergence
from ncn.figures.curves import draw_curves
from ncn.figures.saving import save
from ncn.figures.series import future_arms
from ncn.published.log import (
    PUBLISHED_TOKENS_PER_STEP,
    PUBLISHED_WARMUP_STEPS,
    published_penalty,
)
from ncn.settings import PUBLISHED_SERIES, load_params
from ncn.settings.stage_inputs import StageInputs


def main() -> None:
    """Analyse every arm and seed that params.yaml names, and the published run; read no other."""
    inputs = StageInputs("convergence")
    params = load_params()
    settings = params.convergence
    runs = [(arm, seed) for arm in params.arms for seed in params.seeds]
    logs = [
        analyse_log(
            training_log(run_name(arm, seed)), arm, str(seed), settings,
            warmup_steps=params.train.warmup_steps,
        )
        for arm, seed in runs
    ]  # fmt: skip
    published = analyse_log(
        PUBLISHED_RUN, PUBLISHED_SERIES, "-", settings, PUBLISHED_TOKENS_PER_STEP,
        PUBLISHED_WARMUP_STEPS,
    )  # fmt: skip
    rows = [row for log in [*logs, published] for row in log.rows]
    missing = [log.missing for log in [*logs, published] if log.missing]
    words = {
        arm: in_words([log.end for log in [*logs, published] if log.arm == arm])
        for arm in [*params.arms, PUBLISHED_SERIES]
    }
    summaries = {
        run_name(arm, seed): log.summary for (arm, seed), log in zip(runs, logs, strict=True)
    }
    if not rows:
        raise InputError("no training log can be used: " + "; ".join(missing))
    penalty = {} if published.missing else {"penalty": published_penalty(PUBLISHED_RUN)}
    found = {
        "runs": summaries,
        "arms": {arm: by_arm([log for log in logs if log.arm == arm]) for arm in params.arms},
        "published run 1": published.summary | penalty,
        "missing": missing,
    }
    inputs.check()
    write_tsv(CURVES, rows)
    write_json(CONVERGENCE, found)
    save("curves", draw_curves(rows, future_arms(params)))
    save("convergence", draw_convergence(rows, found, settings, future_arms(params)))
    print("how the runs end, with the slope in nats per 1,000 steps")
    print("\n".join(f"{arm}: {status}" for arm, status in words.items()))


if __name__ == "__main__":
    run_command(main)
