"""The preprint's claims, each with a verdict that a rule draws from metrics/.

metrics/claims.json is {"claims": [...]}, one entry a claim, and one an arm where the claim is about
an arm (its published form, with global salience, and the causal one):

    id        of the claim, with the arm where there is one
    claim     in the preprint's sense; source: its section
    verdict   supported | real but negligible | not supported | undecided at this scale | not
              testable here
    evidence  one sentence with figures, or what is missing
    figure    a number or null; interval [low, high] or null; unit of both
    arm       or null
    rule      how the verdict follows from the figures
    command   that makes the evidence anew

No rule has an exception for a result: what is missing or not finite gives "undecided at this scale"
with its name, another experiment than the published one gives "not testable here".
"""

from collections.abc import Iterator
from typing import Any

from ncn.claims import (
    adaptation,
    context,
    control,
    published,
    results,
    rivals,
    signals,
    tasks,
    training,
)
from ncn.claims.rule import (
    UNDECIDED,
    UNTESTABLE,
    Claim,
    ElsewhereError,
    Finding,
    Metrics,
    MissingError,
)
from ncn.published.run_1 import PUBLISHED_SIGNALS
from ncn.settings import Params

CLAIMS: tuple[Claim, ...] = (
    training.stable,
    results.perplexity_as_published,
    results.plateau,
    results.below_plain,
    training.grammar,
    training.meaning,
    training.meaning_published,
    control.layers_specialise,
    control.reacts_at_word,
    control.gain_range,
    control.gate_switches_off,
    control.shielding,
    adaptation.less_forgotten,
    control.overhead,
    control.fp16_fails_above_4,
    control.cache_compatible,
    control.salience_kept,
    results.object_permanence,
    training.published_control_was_trained,
    published.precision_rises,
    published.gates_approach_zero,
    rivals.dynamic_beats_static,
    context.tonic_matters,
    context.word_order_tells,
    context.adiabatic,
    context.late_positions_gain,
    signals.neither_collapsed_nor_stereotyped,
    signals.sparse_intervention,
    signals.gain_and_gate_separate,
    signals.argmax_at_clamp,
    signals.precision_needs_clamp,
    rivals.zero_start_shocks,
    rivals.smoother_descent,
    rivals.sample_efficiency,
    rivals.better_calibrated,
    tasks.tasks_beat_tokens,
    tasks.sliders_steer,
    tasks.switched_for_nothing,
    tasks.precision_is_a_temperature,
)


def judge(metrics: Metrics) -> dict[str, list[dict[str, Any]]]:
    """metrics/claims.json."""
    return {"claims": [entry for claim in CLAIMS for entry in _judged(claim, metrics)]}


def judged_arms(params: Params, needs: tuple[str, ...]) -> list[str]:
    """The arms that a claim is about: one of the published form, and its causal twin.

    Of each form the arm with a trained control network that sets the signals of `needs`, and beside
    them signals as near to the published ones as there are; the first of several.
    """
    best: dict[str, tuple[int, str]] = {}
    for arm in params.arms:
        control = params.control_network(arm)
        signals = set(control.signals)
        trained = control.controller == "network" and not control.frozen
        if trained and control.salience in ("global", "causal") and signals >= set(needs):
            far = len(signals ^ set(PUBLISHED_SIGNALS))
            if control.salience not in best or far < best[control.salience][0]:
                best[control.salience] = far, arm
    return [best[form][1] for form in ("global", "causal") if form in best]


def _judged(claim: Claim, metrics: Metrics) -> Iterator[dict[str, Any]]:
    about: list[str | None] = [None]
    if claim.needs is not None and (arms := judged_arms(metrics.params, claim.needs)):
        about = [*arms]
    for arm in about:
        yield {
            "id": claim.name if arm is None else f"{claim.name}.{arm}",
            "claim": claim.text,
            "source": f"preprint {claim.section}".rstrip(),  # not every claim has one
            **_found(claim, metrics, arm)._asdict(),
            "arm": arm,
            "rule": claim.rule_in_words,
            "command": claim.command,
        }


def _found(claim: Claim, metrics: Metrics, arm: str | None) -> Finding:
    """What the rule finds, or why it finds nothing."""
    if claim.needs is not None and arm is None:
        lacking = f" that sets {' and '.join(claim.needs)}" if claim.needs else ""
        return Finding(UNTESTABLE, f"No arm has a trained control network{lacking}.")
    try:
        return claim.rule(metrics, *([] if arm is None else [arm]))
    except MissingError as error:
        return Finding(UNDECIDED, f"Missing: {error}.")
    except ElsewhereError as error:
        return Finding(UNTESTABLE, f"{str(error)[0].upper()}{str(error)[1:]}.")
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        # Files of another version, or made by hand: a table without this verdict beats none.
        return Finding(UNDECIDED, f"Missing: metrics of the expected form ({error}).")
