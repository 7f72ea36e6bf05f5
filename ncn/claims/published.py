"""Rules about the published run alone: what its own figures say of its claims."""

from ncn.claims.rule import NO, REPORT, YES, Finding, Metrics, claim
from ncn.published.claimed import NEAR_ZERO
from ncn.published.run_1 import PUBLISHED_HEATMAPS

NEUTRAL = 1.0  # a precision above it sharpens attention


@claim("precision_published", "In run 1, precision rises above 1.0", "5", REPORT, needs=None)
def precision_rises(_metrics: Metrics) -> Finding:
    """Supported if the published heatmap of run 1 shows a precision above 1.0 anywhere; not
    supported otherwise.
    """
    low, high = PUBLISHED_HEATMAPS["precision"]
    return Finding(
        YES if high > NEUTRAL else NO,
        f"The published precisions lie in {low:.3f} to {high:.3f}: every query is scaled down.",
        high,
        unit="precision, highest",
    )


@claim("gates_published", "In run 1, gates often approach zero", "5", REPORT, needs=None)
def gates_approach_zero(_metrics: Metrics) -> Finding:
    """Supported if the published heatmap of run 1 shows a gate below 0.1 anywhere; not supported
    otherwise.
    """
    low, high = PUBLISHED_HEATMAPS["ffn_gate"]
    return Finding(
        YES if low < NEAR_ZERO else NO,
        f"The published gates lie in {low:.3f} to {high:.3f}.",
        low,
        unit="gate, lowest",
    )
