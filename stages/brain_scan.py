"""Trained models -> the signals on the texts of params.yaml, beside the untrained control.

In:  data/models/ARM-SEED, data/tokens/tokenizer.
Out: metrics/brain_scan.json, plots/brain_scan/scan.tsv (long form).
"""

from ncn.artifacts import BRAIN_SCAN, SCANS, TOKENIZER, model_directory, run_name
from ncn.brain_scan import scan_rows, scan_text, summarise_scan, untrained
from ncn.checkpoint import load_model
from ncn.config import load_params
from ncn.errors import run_command
from ncn.files import write_json, write_tsv
from ncn.tokenizer import load_tokenizer


def main() -> None:
    """Scan every run that has a control network."""
    params = load_params()
    tokenizer = load_tokenizer(TOKENIZER)
    rows: list[dict[str, object]] = []
    summary: dict[str, dict[str, object]] = {}
    for arm in params.arms:
        for seed in params.seeds:
            run = run_name(arm, seed)
            model = load_model(model_directory(run))
            if model.control is None:
                continue
            states = {"trained": model, "untrained": untrained(model, seed)}
            scans = {
                state: [scan_text(each, tokenizer, text) for text in params.brain_scan.texts]
                for state, each in states.items()
            }
            summary[run] = {
                state: [
                    {"text": text} | summarise_scan(scan)
                    for text, scan in zip(params.brain_scan.texts, mine, strict=True)
                ]
                for state, mine in scans.items()
            }
            for state, mine in scans.items():
                for number, scan in enumerate(mine):
                    rows += scan_rows(scan, arm=arm, seed=seed, state=state, text=number)
    write_tsv(SCANS, rows)
    write_json(BRAIN_SCAN, summary)


if __name__ == "__main__":
    run_command(main)
