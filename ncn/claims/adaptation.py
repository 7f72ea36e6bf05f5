"""A rule about a second phase of training: whether a control network keeps what was learned."""

import numpy as np

from ncn.claims.rule import (
    ADAPT,
    UNDECIDED,
    ElsewhereError,
    Finding,
    Metrics,
    claim,
    look,
)
from ncn.claims.seeds import finding, of_the_method
from ncn.common.paths import ADAPTATION, adapted_name
from ncn.settings import BASELINE


@claim(
    "forgetting",
    "Gradient shielding protects what was learned: a second training takes less of it",
    "3.7, 6.1",
    ADAPT,
    needs=("gain",),
)
def less_forgotten(metrics: Metrics, arm: str) -> Finding:
    """The arm and the baseline are trained again, in full, on a second text that disagrees with the
    first. Supported if the arm's loss on the first text rises by less than the baseline's, by the
    95 % interval over at least two seeds, real but negligible if surely by less than 0.01 nats of
    it; not supported if surely less than that and not surely above 0; else undecided. Undecided
    too if the baseline does not surely forget, or if the arm surely learns less of the second text:
    who learns less forgets less.
    """
    mine, theirs = (_by_seed(metrics, each, "full") for each in (arm, BASELINE))
    spared = np.subtract(theirs["forgotten"], mine["forgotten"]).tolist()
    ahead = np.subtract(mine["learned"], theirs["learned"]).tolist()
    lost, more = of_the_method(theirs["forgotten"]), of_the_method(ahead)
    found = finding(
        of_the_method(spared),
        spared,
        "Trained again in full, it forgets less than the baseline by {}",
        "nats a token",
    )
    said = (
        f" The baseline forgets {np.mean(theirs['forgotten']):+.4f}; of the second text it learns"
        f" {np.mean(theirs['learned']):+.4f}, and the arm {np.mean(ahead):+.4f} more."
    )
    if replayed := metrics.adaptation["arms"].get(adapted_name(BASELINE, "replay")):
        forgotten = look(replayed, ADAPTATION, "by_seed", "forgotten")
        said += f" With replay the baseline forgets {np.mean(forgotten):+.4f}."
    if lost is None or more is None or lost.low <= 0 or more.high < 0:
        found = found._replace(verdict=UNDECIDED)
    return found._replace(evidence=found.evidence + said)


def _by_seed(metrics: Metrics, arm: str, method: str) -> dict[str, list[float]]:
    """What an arm forgot and learned, by seed."""
    name = adapted_name(arm, method)
    if name not in metrics.adaptation.get("arms", {}):
        raise ElsewhereError(
            f"{name} was not trained on a second text: `python -m ncn profile adaptation` asks"
            " for it"
        )
    return {
        effect: look(metrics.adaptation, ADAPTATION, "arms", name, "by_seed", effect)
        for effect in ("forgotten", "learned")
    }
