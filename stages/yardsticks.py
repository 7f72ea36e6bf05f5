"""Rows of token ids -> what counting them predicts of the rows that models are scored on.

In:  data/tokens.
Out: data/yardsticks.json: losses without context, and with one token of it, for every arm.
"""

from ncn.common.errors import run_command
from ncn.common.files import write_json
from ncn.common.paths import TOKENS, YARDSTICKS
from ncn.common.timing import timed
from ncn.corpus.meta import read_meta
from ncn.corpus.rows import open_rows
from ncn.corpus.split import choose_sequences
from ncn.scoring.yardsticks import yardsticks
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs


def main() -> None:
    """Count the training part once: it may be larger than all that scoring a model reads."""
    inputs = StageInputs("yardsticks")
    params = load_params()
    validation = open_rows(TOKENS, "val")
    scored = validation[choose_sequences(len(validation), params.eval.sequences, params.seed)]
    with timed("yardsticks"):
        found = yardsticks(open_rows(TOKENS, "train"), scored, read_meta(TOKENS).vocab_size)
    inputs.check()
    write_json(YARDSTICKS, found._asdict())
    losses = ", ".join(f"{name} {loss:.4f}" for name, loss in found._asdict().items())
    print(f"losses of counting, nats a token: {losses}")


if __name__ == "__main__":
    run_command(main)
