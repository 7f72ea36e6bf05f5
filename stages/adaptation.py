"""The second phases of training side by side: what each forgot of the first text, and learned.

In:  data/adapted/ARM-METHOD-SEED.
Out: metrics/adaptation.json; {} where `adapt.start_from` is empty.
"""

from itertools import product

from ncn.analysis.adaptation import read_adapted
from ncn.common.errors import run_command
from ncn.common.files import write_json
from ncn.common.leftovers import clear_adapted
from ncn.common.paths import ADAPTATION, adapted_name, run_name
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs


def main() -> None:
    """Read what params.yaml names, and no other."""
    params = load_params()
    named = product(params.adapt.start_from, params.adapt.train_only, params.seeds)
    runs = [run_name(adapted_name(arm, method), seed) for arm, method, seed in named]
    clear_adapted(runs)
    inputs = StageInputs("adaptation")
    found = read_adapted(runs)
    inputs.check()
    write_json(ADAPTATION, found)
    print("\n".join(found.get("in_words", ["adapt.start_from is empty: no model was adapted"])))


if __name__ == "__main__":
    run_command(main)
