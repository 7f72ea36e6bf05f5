"""All figures -> the verdict on each claim, and one page to read.

In:  metrics/, plots/*.tsv, data/tokens/meta.json, requirements.lock.
Out: metrics/claims.json; plots/report.html, self-contained.
"""

from ncn.claims.judge import judge
from ncn.claims.rule import read_metrics
from ncn.common.errors import run_command
from ncn.common.files import write_json, write_text
from ncn.common.paths import CLAIMS, REPORT
from ncn.report.inputs import gather
from ncn.report.page import render
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs


def main() -> None:
    """Read what params.yaml names; say what of it is missing, on the page and here."""
    started = StageInputs("report")
    params = load_params()
    claims = judge(read_metrics(params))
    started.check()
    write_json(CLAIMS, claims)  # which the page reads
    inputs = gather(params)
    write_text(REPORT, render(params, inputs))
    for gap in inputs.missing:
        print(f"missing: {gap}")
    print(f"{REPORT}: {len(params.arms)} arms, {len(inputs.runs)} runs")


if __name__ == "__main__":
    run_command(main)
