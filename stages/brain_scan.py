"""Trained models -> their signals, beside untrained networks of the same form, and what that shows.

In:  data/models/ARM-SEED, data/tokens.
Out: metrics/brain_scan.json and plots/brain_scan/scan.tsv (the texts of params.yaml);
     metrics/brain_scan_tests.json and plots/brain_scan/{tokens,layers,losses,heads}.tsv (tests);
     plots/figures/brain_scan.{svg,png}, the first text under the first seed of each arm.
"""

import ncn.common.before_torch  # noqa: F401 isort: skip (before what takes long)


from ncn.common.errors import run_command
from ncn.common.files import write_json
from ncn.common.leftovers import clear_leftovers
from ncn.common.paths import (
    BRAIN_SCAN,
    SCAN_TABLES,
    SCAN_TESTS,
    SCANS,
    TOKENIZER,
    TOKENS,
    model_directory,
    run_name,
)
from ncn.common.timing import timed
from ncn.common.tsv import write_tsv
from ncn.corpus.split import choose_sequences
from ncn.corpus.tokenizer import load_tokenizer
from ncn.figures.brain_scan import draw_scans
from ncn.figures.saving import save
from ncn.model import load_model
from ncn.model.device import compute_alike
from ncn.model.inputs import validation_rows
from ncn.scan.reading import Null, other_initialisations, token_counts
from ncn.scan.tables import examine
from ncn.scan.texts import scan_run
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs
from ncn.statistics.rounding import rounded

Rows = list[dict[str, object]]


def main() -> None:
    """Scan every run that has a control network; the untrained networks serve all seeds."""
    named = load_params()
    clear_leftovers(named.arms, named.seeds)
    inputs = StageInputs("brain_scan")
    params = load_params()
    compute_alike(params.train.threads)
    settings = params.brain_scan
    tokenizer = load_tokenizer(TOKENIZER)
    summary, tests = {}, {}
    scans: Rows = []
    tables: dict[str, Rows] = {name: [] for name in SCAN_TABLES}
    nulls: dict[str, Null] = {}
    with timed("brain_scan"):
        for arm, seed in [(arm, seed) for arm in params.arms for seed in params.seeds]:
            run, labels = run_name(arm, seed), {"arm": arm, "seed": seed}
            model = load_model(model_directory(run))
            if model.control is None:
                continue
            summary[run], rows = scan_run(model, seed, tokenizer, settings.texts)
            scans += [labels | row for row in rows]
            validation = validation_rows(TOKENS, model)
            counts = token_counts(validation.tokens, tokenizer.vocab_size)
            chosen = validation[choose_sequences(len(validation), settings.sequences, params.seed)]
            if arm not in nulls:
                nulls[arm] = other_initialisations(model, chosen, tokenizer, settings)
            tests[run], found = examine(
                model, chosen, counts, nulls[arm], tokenizer, settings, params.seed
            )
            for name in tables:
                tables[name] += [labels | row for row in found[name]]
    inputs.check()
    write_tsv(SCANS, scans)
    for name, path in SCAN_TABLES.items():
        write_tsv(path, rounded(tables[name]))
    write_json(BRAIN_SCAN, summary)
    write_json(SCAN_TESTS, rounded(tests))
    save("brain_scan", draw_scans(scans, settings.texts[0]))


if __name__ == "__main__":
    run_command(main)
