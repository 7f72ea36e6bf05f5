"""A trained arm with a gate -> what skipping its branches and compressing its caches costs.

In:  data/models/ARM-SEED, data/tokens.
Out: metrics/conditional.json, plots/conditional.tsv, plots/figures/conditional.{svg,png}.
"""

import ncn.common.before_torch  # noqa: F401 isort: skip (before what takes long)

from ncn.common.errors import run_command
from ncn.common.files import write_json
from ncn.common.leftovers import clear_leftovers
from ncn.common.paths import (
    CONDITIONAL,
    CONDITIONAL_TABLE,
    TOKENS,
    model_directory,
    run_name,
)
from ncn.common.timing import timed
from ncn.common.tsv import write_tsv
from ncn.conditional.curves import NOTHING, Run, summary, table
from ncn.conditional.points import arm_with_a_gate, points_of
from ncn.figures.conditional import draw_conditional
from ncn.figures.saving import save
from ncn.model import load_model
from ncn.model.device import compute_alike
from ncn.model.flops import flops_per_token
from ncn.model.inputs import validation_rows
from ncn.scoring.asked import asked_of
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs
from ncn.statistics.rounding import rounded


def main() -> None:
    """Ask every seed of the first arm whose control network has a gate."""
    named = load_params()
    clear_leftovers(named.arms, named.seeds)
    inputs = StageInputs("conditional")
    params = load_params()
    compute_alike(params.train.threads)
    settings, arm = params.conditional, arm_with_a_gate(params)
    runs: dict[int, Run] = {}
    tokens = flops = 0
    with timed("conditional"):
        for seed in params.seeds if arm else []:
            model = load_model(model_directory(run_name(str(arm), seed))).eval()
            asked, before = (
                asked_of(model, validation_rows(TOKENS, model, part), settings.sequences)
                for part in ("val", "train")
            )
            runs[seed] = points_of(asked, before, settings, params.seed)
            tokens, flops = asked.tokens.shape[1], flops_per_token(model.config)
    found = NOTHING
    if arm:
        found = summary(arm, runs, tokens, flops, params.eval.bootstrap, params.seed)
    inputs.check()
    write_json(CONDITIONAL, rounded(found))
    write_tsv(CONDITIONAL_TABLE, rounded(table(str(arm), runs)))
    save("conditional", draw_conditional(found))
    print("\n".join(found["in_words"]))


if __name__ == "__main__":
    run_command(main)
