"""In which forms a run is scored, and which of them is a language model's."""

from collections.abc import Container, Mapping

# A form -> its column in the tables of losses. `as_trained`; `causal`: the weights of an arm that
# was trained with the whole window in view, its salience pooled over the history (preprint eq. 1
# for a language model); `reactive`: pooled from the present token, as the preprint generates (3.2).
COLUMNS = {"as_trained": "loss", "causal": "causal_loss", "reactive": "reactive_loss"}


def language_model(forms: Container[str]) -> str:
    """The form that counts as the score of a run: causal, where it was trained otherwise.

    Args:
        forms: in which it was scored.
    """
    return "causal" if "causal" in forms else "as_trained"


def other_score(scores: Mapping[str, Mapping[str, float]], form: str) -> float | None:
    """The perplexity of a form of scoring, where it was scored so and that is not what counts."""
    return scores.get(form, {}).get("ppl") if form != language_model(scores) else None
