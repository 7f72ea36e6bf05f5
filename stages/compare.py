"""The scored arms -> their differences.

In:  plots/clusters/ARM-SEED.tsv, metrics/evaluate/ARM-SEED.json, metrics/train/ARM-SEED.json.
Out: metrics/summary.json (what `dvc metrics diff` shows), metrics/compare.json (all statistics);
     plots/figures/result.{svg,png}.
"""

from ncn.analysis.comparison import compare
from ncn.common.errors import run_command
from ncn.common.files import write_json
from ncn.common.paths import COMPARISON, SUMMARY
from ncn.figures.result import draw_result
from ncn.figures.saving import save
from ncn.settings import load_params


def main() -> None:
    """Compare every arm and seed that params.yaml names; read no other."""
    params = load_params()
    summary, comparison = compare(
        list(params.arms),
        params.seeds,
        params.eval.bootstrap,
        params.eval.equivalence,
        params.seed,
    )
    write_json(SUMMARY, summary)
    write_json(COMPARISON, comparison)
    save("result", draw_result(summary, comparison))
    print("\n".join(comparison["in_words"].values()))


if __name__ == "__main__":
    run_command(main)
