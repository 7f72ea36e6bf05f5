"""The frozen sizes of each study -> how losses and differences move with size.

In:  studies/NAME/SIZE/metrics/ (`python -m ncn study freeze`).
Out: metrics/scaling.json, plots/scaling.tsv, plots/figures/scaling.{svg,png}.
"""

from ncn.analysis.scaling import in_table, scaling_of_studies
from ncn.common.errors import run_command
from ncn.common.files import write_json
from ncn.common.paths import SCALING, SCALING_TABLE, STUDIES
from ncn.common.tsv import write_tsv
from ncn.figures.saving import save
from ncn.figures.scaling import draw_scaling
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs


def main() -> None:
    """Set the sizes of every study side by side; where none is frozen, say so."""
    inputs = StageInputs("scaling")
    found = scaling_of_studies(load_params().seed)
    inputs.check()
    write_json(SCALING, found)
    write_tsv(SCALING_TABLE, in_table(found))
    save("scaling", draw_scaling(found))
    for name, study in found.items():
        print("\n".join(f"{name}: {words}" for words in study["in_words"]))
    if not found:
        print(f"no study in {STUDIES}/ is frozen yet: python -m ncn study list")


if __name__ == "__main__":
    run_command(main)
