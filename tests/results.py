"""A made-up finished run: every file that the report reads, in the present folder."""

import math
from typing import Any

import numpy as np

from ncn.analysis.adaptation import adaptation
from ncn.analysis.comparison import as_table
from ncn.analysis.robustness import NEW, VIEWS
from ncn.analysis.scaling import in_words, scaling
from ncn.common.files import read_json, write_json, write_text
from ncn.common.paths import (
    ADAPTATION,
    BENCHMARK,
    BRAIN_SCAN,
    CLAIMS,
    COMPARISON,
    CONDITIONAL,
    CONVERGENCE,
    CURVES,
    DIFFERENCES,
    REQUIREMENTS,
    ROBUSTNESS,
    SAMPLES,
    SCALING,
    SCAN_TABLES,
    SCAN_TESTS,
    SCANS,
    SUMMARY,
    TOKENS,
    TUNING,
    evaluation_metrics,
    run_name,
    sequence_losses,
    training_log,
    training_metrics,
)
from ncn.common.tsv import write_tsv
from ncn.conditional.curves import ALL, CHOICES, LOW, RANDOM
from ncn.report.inputs import has_control
from ncn.settings import Params
from ncn.signals import SIGNALS

CURVE = {
    "ending": "still improving",
    "by_the_published_rule": "still improving",
    "slope_per_1k": -0.12345,
    "slope_low": -0.2,
    "slope_high": -0.05,
    "last_loss": 1.34567,
    "grammar_95": {"sei": 0.31234, "step": 240, "sei_by_smoothing_span": {"25": 0.35, "100": None}},
    "intellectual_99": {"sei": None, "step": None, "reason": "the phase has not ended"},
    "tokens_to_reach": {"4.0": 20480, "3.0": 40960, "2.5": None, "2.0": None},
    "power_law": {"a": None, "b": None, "c": None, "reason": "the fit did not converge"},
}
ENDS = [-0.25, -0.3, -0.2]
VERDICTS = (
    "supported",
    "real but negligible",
    "not supported",
    "undecided at this scale",
    "not testable here",
)
TEXT = ["Tim", "my", "·was", "·sad", "."]
N_SEQUENCES = 120


def summary_of(params: Params) -> dict[str, dict[str, float]]:
    entries: dict[str, dict[str, float]] = {}
    for place, arm in enumerate(params.arms):
        loss = 1.23456 + 0.01 * place
        entries[arm] = {
            "val_ppl": math.exp(loss),
            "val_loss": loss,
            "future_leak": 0.837123 if arm == "ncn" else 0.0,
        }
        if arm != "baseline":
            ends = {"delta_ppl": -0.0123456, "delta_ppl_low": -0.0234567}
            entries[arm] = ends | {"delta_ppl_high": 0.0034567} | entries[arm]
    return entries


def arm_entry(params: Params, arm: str) -> dict[str, Any]:
    """An arm's entry of metrics/compare.json; `ncn` was trained with later tokens in view."""
    place, mine = list(params.arms).index(arm), summary_of(params)[arm]
    scores = {"as_trained": {"loss": mine["val_loss"], "ppl": mine["val_ppl"], "delta_ppl": None}}
    if arm == "ncn":
        scores["causal"] = scores["as_trained"]
        scores["as_trained"] = {"loss": 1.1, "ppl": 3.00417, "delta_ppl": ENDS}
    if arm != "baseline":
        scores["reactive"] = {"loss": 1.4, "ppl": 3.98765, "delta_ppl": ENDS}
    return {
        "val_loss": {"by_seed": dict.fromkeys(map(str, params.seeds), mine["val_loss"])},
        "val_bpb": 0.456789,
        "parameters": 1056896 + place,
        "non_embedding_parameters": 778368 + place,
        "flops_per_token": 2_000_000 + 50_000 * place,
        "scores": scores,
    }


def difference(params: Params) -> dict[str, Any]:
    """An arm's difference to the baseline, of one seed or of several."""
    ends = [-0.0123456, -0.0234567, 0.0034567]
    found: dict[str, Any] = {"delta_ppl": ends, "delta_loss": ends, "by_seed": {"1": ends}}
    if len(params.seeds) < 2:
        names = ("p", "p_holm", "p_equivalent_holm", "equivalent", "smallest_detectable")
        return found | dict.fromkeys(names) | {"with_seeds": {"5": 0.0251, "10": 0.0134}}
    found |= {"p": 0.02, "p_holm": 0.04, "p_equivalent_holm": 0.2, "equivalent": False}
    return found | {"smallest_detectable": 0.0038}


def adapted(arm: str, method: str) -> dict[str, Any]:
    """What the second training of a run did."""
    losses = {"before": 1.25, "start": 1.25, "after": 1.5 if arm == "baseline" else 1.4375}
    second = {"before": 3.0, "start": 3.0, "after": 2.0}
    counted = {"arm": arm, "method": method, "seed": 1, "trained_parameters": 17_984}
    return counted | {"loss": {"first": losses, "second": second}}


def claim(place: int, verdict: str) -> dict[str, Any]:
    return {
        "id": f"claim_{place}",
        "claim": f"Claim number {place}",
        "source": "section 5.1",
        "verdict": verdict,
        "evidence": f"The figure is {place}.",
        "figure": 0.25 * place,
        "interval": [0.25 * place - 0.1, 0.25 * place + 0.1] if place else None,
        "unit": "nats",
        "arm": "ncn",
        "command": "dvc repro compare",
        "rule": "supported where the interval lies above 0",
    }


def tuning_of(params: Params) -> dict[str, dict[str, Any]]:
    """Of each arm, how its learning rate was found; of the first, that none was looked for."""
    grid = [{"lr": 1e-3, "loss": 1.5}, {"lr": 2e-3, "loss": 1.4321}, {"lr": 4e-3, "loss": None}]
    found = {"lr": 2e-3, "tuned": True, "grid": grid, "flatness": [0.0679, None]}
    first, *others = params.arms
    return {first: {"arm": first, "lr": 2e-3, "tuned": False}} | dict.fromkeys(others, found)


def robustness_of(params: Params) -> dict[str, Any]:
    """Of each arm but the baseline, its difference counted otherwise; no story is new."""
    views = {view: [-0.0321, -0.0523, -0.0119] for view in VIEWS} | {NEW: None}
    each = {"views": views, "without_one_seed": [-0.0456, -0.0123], "seed_sd": 0.0234}
    overlap = {"clusters": 60, "near_duplicates": 7, "tokens": 0.1, "tenths": [0.1, 0.2, 0.3]}
    return {
        "ngram": 16,
        "near_duplicate": 0.5,
        "overlap": overlap,
        "arms": {arm: each for arm in params.arms if arm != "baseline"},
        "in_words": ["No arm's validation loss ends above its lowest."],
    }


def conditional_of(params: Params) -> dict[str, Any]:
    """An arm with branches left out, and with its keys and values compressed."""
    losses = {each: [0.0123 * (n + 1), -0.001, 0.05] for n, each in enumerate(CHOICES)}
    flops = dict.fromkeys(CHOICES, 1_234_567.0)
    below = params.conditional.skip_below
    points = [
        {"below": eps, "share": eps / (1 + eps), "by_seed": [eps / (1 + eps)]}
        | {"flops_per_token": flops, "loss": losses}
        for eps in below
    ]
    ways = [(ALL, 8, 0), (ALL, 4, 0), (LOW, 4, 0), (LOW, 4, 8), (RANDOM, 4, 0), (RANDOM, 4, 8)]
    caches = [
        {"states": states, "bits": bits, "others": others, "share": 0.5}
        | {"bytes_per_token": 100.0 * (bits + others), "loss": [0.0321, 0.0123, 0.0456]}
        for states, bits, others in ways
    ]
    return {
        "arm": "ncn",
        "seeds": params.seeds,
        "sequences": 8,
        "tokens": 128,
        "loss": 1.23456,
        "flops_per_token": 2_345_678,
        "skipping": {"feed_forward": points, "layer": points},
        "caches": caches,
        "in_words": ["ncn without 44 % of its layers (eps 0.8): more."],
    }


def studies() -> dict[str, Any]:
    """One study with one frozen size."""
    figures = {"parameters": 311_000, "non_embedding_parameters": 170_000, "tokens": 2_345_678}
    figures |= {"flops_per_token": 600_000}
    arms = {
        arm: figures | {"loss_by_seed": {"1": loss, "2": loss + 0.01, "3": loss - 0.01}}
        for arm, loss in (("baseline", 2.75), ("ncn_causal", 2.71))
    }
    found = scaling([{"size": "small", "arms": arms}], 1)
    return {"trial": found | {"in_words": in_words(found)}}


def scan_test() -> dict[str, Any]:
    """What the scan's tests say of one run."""
    return {
        "specialisation": {
            name: {"spread": 0.11, "null_mean": 0.001, "p": 0.01, "p_holm": 0.03}
            for name in SIGNALS
        },
        "word": {
            "signals": {
                name: {"effect": 0.42, "p_tokens_holm": 0.6, "p_initialisations_holm": 0.02}
                for name in SIGNALS
            }
        },
        "gain_range": {"low": 0.04, "high": 1.25, "share_inside": 0.004},
        "easy_tokens": {
            "signals": {
                name: {"rho": ENDS, "rho_given_frequency": ENDS, "p": 0.001} for name in SIGNALS
            },
            "gate_easiest": 0.87,
            "gate_hardest": 0.81,
        },
        "explained_loss": {key: [0.1, 0.09, 0.11] for key in ("signals", "frequency", "both")},
        "entropy": {"share_sharper": 0.75},
    }


def log_rows(arm: str, seed: int, controlled: bool) -> list[dict[str, object]]:
    """A training log; validation and signals are measured at some points only."""
    noise = np.random.default_rng(seed)
    rows = []
    for step in range(5, 405, 5):
        loss = 0.8 + 6.5 * math.exp(-step / 80) + noise.normal(0, 0.02) + 0.01 * len(arm)
        measured = step % 50 == 0
        rows.append(
            {"arm": arm, "seed": seed, "step": step, "tokens": step * 1024, "loss": loss}
            | {"penalty": 0.004 if controlled else 0.0, "lr": 0.001, "grad_norm": 1 + 9 / step}
            | {
                f"{name}_mean": 0.5 + 20 / step if controlled and measured else ""
                for name in SIGNALS
            }
            | {"val_loss": loss + 0.05 if measured else ""}
        )
    return rows


def table_rows(n_layers: int) -> dict[str, list[dict[str, object]]]:
    """What the scan's tests leave of one run, by table."""
    rho = {"rho_given_position": -0.1, "rho_given_position_low": -0.2}
    return {
        "layers": [
            {"signal": name, "layer": layer + 1, "mean": 0.6 + 0.1 * layer}
            | {"sd": 0.1, "null_mean": 1.0}
            for name in SIGNALS
            for layer in range(n_layers)
        ],
        "losses": [
            {"signal": name, "tenth": tenth, "loss": 0.1 * tenth, "mean": 0.9 - 0.01 * tenth}
            for name in SIGNALS
            for tenth in range(1, 11)
        ],
        "heads": [
            {"layer": layer + 1, "head": head, **rho, "rho_given_position_high": 0.05}
            for layer in range(n_layers)
            for head in (1, 2)
        ],
    }


def write_results(params: Params) -> None:
    """Write what a finished run of `params` leaves behind."""
    write_json(SUMMARY, summary_of(params))
    in_words = {arm: f"{arm}: said in words." for arm in params.arms}
    compared = [arm for arm in params.arms if arm != "baseline"]
    counts = {"sequences": 3200, "cluster": "story", "clusters": 420, "seeds": params.seeds}
    write_json(
        COMPARISON,
        counts
        | {"margin": 0.01, "primary": params.compare.primary, "seed_sd": params.compare.seed_sd}
        | {"reference": None, "comparisons": len(compared) if len(params.seeds) > 1 else 0}
        | {"arms": {arm: arm_entry(params, arm) for arm in params.arms}}
        | {"differences": dict.fromkeys(compared, difference(params)), "in_words": in_words},
    )
    part = {"rows": 900, "tokens": 115200, "bytes_per_token": 3.9}
    split = params.split.model_dump() | {"seed": params.seed}
    counts = {"stories": 1000, "tokens": 234567, "vocab_size": 2048, "context_length": 128}
    meta = counts | {"split": split, "train": part, "val": part, "digest": "ab" * 32}
    write_json(TOKENS / "meta.json", meta)
    write_text(REQUIREMENTS, "# pinned\nnumpy==2.4.1  # via scipy\ntorch==2.13.0\n")
    runs, scans = {}, {}
    curves: list[dict[str, object]] = []
    scan_rows: list[dict[str, object]] = []
    tests: dict[str, object] = {}
    tables: dict[str, list[dict[str, object]]] = {"layers": [], "losses": [], "heads": []}
    signal = {"mean": 1.0, "sd": 0.1, "layer_means": [0.91] * params.model.n_layers}
    scan = [{"text": text} | dict.fromkeys(SIGNALS, signal) for text in params.brain_scan.texts]
    sequences = np.random.default_rng(0).uniform(0.5, 1.5, N_SEQUENCES)
    for arm in params.arms:
        controlled = has_control(params, arm)
        for seed in params.seeds:
            run = run_name(arm, seed)
            trained = {"parameters": 1056896, "d_ff": 512, "steps": 940, "tokens": 1925120}
            losses = {"first_loss": 7.6, "last_loss": 1.3, "seed": seed}
            write_json(training_metrics(run), trained | losses | {"data": meta["digest"]})
            yardsticks = {"uniform": math.log(2048), "unigram": 5.9, "bigram": math.log(22.204)}
            ppl = {"val_ppl": 3.4 + 0.01 * seed + 0.001 * len(arm)}
            leak = summary_of(params)[arm]["future_leak"]
            scores = {"sequences": 3200, "val_loss": 1.2345, "val_bpb": 0.4567, "future_leak": leak}
            forms = {"scores": arm_entry(params, arm)["scores"]}
            write_json(evaluation_metrics(run), ppl | scores | forms | {"yardsticks": yardsticks})
            shift = np.random.default_rng(len(arm)).normal(0.002 * len(arm), 0.03, N_SEQUENCES)
            scored = enumerate(sequences + (0 if arm == "baseline" else shift))
            write_tsv(sequence_losses(run), [{"sequence": n, "loss": x} for n, x in scored])
            log = log_rows(arm, seed, controlled)
            write_tsv(training_log(run), log)
            keys = ("arm", "seed", "step", "tokens", "loss")
            curves += [
                {key: row[key] for key in keys} | {"short": row["loss"], "long": row["loss"]}
                for row in log
            ]
            runs[run] = CURVE
            if controlled:
                scans[run] = {"trained": scan, "untrained": scan}
                tests[run] = scan_test()
                for name, rows in table_rows(params.model.n_layers).items():
                    tables[name] += [{"arm": arm, "seed": seed} | row for row in rows]
                scan_rows += [
                    {"arm": arm, "seed": seed, "state": state, "text": text}
                    | {"position": position, "token": token, "layer": layer + 1}
                    | {"signal": name, "value": 0.5 + 0.1 * position + 0.05 * layer}
                    for state in ("trained", "untrained")
                    for text in range(len(params.brain_scan.texts))
                    for name in SIGNALS
                    for position, token in enumerate(TEXT)
                    for layer in range(params.model.n_layers)
                ]
    curves += [
        {"arm": "published", "seed": "-", "step": step, "tokens": step * 32768}
        | dict.fromkeys(("loss", "short", "long"), 1.5 + 200 / step)
        for step in range(20, 2000, 20)
    ]
    write_tsv(CURVES, curves)
    write_tsv(SCANS, scan_rows)
    write_json(SCAN_TESTS, tests)
    for name, rows in tables.items():
        write_tsv(SCAN_TABLES[name], rows)
    penalty = {"penalty": {"low": 0.0033, "high": 0.0034, "at_zero": 0.00338}}
    write_json(CONVERGENCE, {"runs": runs, "published run 1": CURVE | penalty})
    write_json(BRAIN_SCAN, scans)
    write_json(CLAIMS, {"claims": [claim(place, each) for place, each in enumerate(VERDICTS)]})
    write_tsv(DIFFERENCES, as_table(read_json(COMPARISON)))
    write_json(TUNING, tuning_of(params))
    write_json(ROBUSTNESS, robustness_of(params))
    write_json(CONDITIONAL, conditional_of(params))
    again = [adapted(arm, method) for arm in ("baseline", "ncn") for method in ("lora", "full")]
    write_json(ADAPTATION, adaptation(again))
    write_json(SCALING, studies())
    write_json(BENCHMARK, {"machine": {"device": "CPU"}, "training_step": {"arms": {}}})
    texts = {run: f" a tale by {run} <b>" for run in runs}
    write_json(SAMPLES, {"samples": dict.fromkeys(params.generate.prompts, texts)})
