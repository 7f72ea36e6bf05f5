"""The scored arms -> their differences.

In:  data/tuning/ARM, data/models/ARM-SEED, data/scores/ARM-SEED.
Out: metrics/train/, metrics/evaluate/, plots/train/, metrics/tuning.json, plots/tuning.tsv (what
     the runs recorded, for people and git);
     metrics/summary.json (what `dvc metrics diff` shows), metrics/compare.json (all statistics);
     plots/differences.tsv (what `dvc plots diff` shows), plots/figures/result.{svg,png}.
"""

from ncn.analysis.comparison import as_table, compare
from ncn.analysis.records import copy_records, copy_tuning
from ncn.common.errors import run_command
from ncn.common.files import write_json
from ncn.common.leftovers import clear_leftovers
from ncn.common.paths import COMPARISON, DIFFERENCES, SUMMARY, run_name
from ncn.common.tsv import write_tsv
from ncn.figures.result import draw_result
from ncn.figures.saving import save
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs


def main() -> None:
    """Compare every arm and seed that params.yaml names; read no other."""
    named = load_params()
    clear_leftovers(named.arms, named.seeds)
    inputs = StageInputs("compare")
    params = load_params()
    summary, comparison = compare(
        list(params.arms),
        params.seeds,
        params.compare,
        params.eval.bootstrap,
        params.eval.equivalence,
        params.seed,
    )
    inputs.check()
    copy_records(run_name(arm, seed) for arm in params.arms for seed in params.seeds)
    copy_tuning(params.arms)
    write_json(SUMMARY, summary)
    write_json(COMPARISON, comparison)
    write_tsv(DIFFERENCES, as_table(comparison))
    save("result", draw_result(summary, comparison))
    print("\n".join(comparison["in_words"].values()))


if __name__ == "__main__":
    run_command(main)
