"""Every parser and loader, with the files that it reads: whole ones, of which one is changed."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock, patch

import numpy as np
import torch

from ncn.analysis.comparison import read_scores
from ncn.analysis.scaling import NEEDED, in_table, scaling_of_studies
from ncn.analysis.training_logs import analyse_log
from ncn.claims.judge import judge
from ncn.claims.rule import read_metrics
from ncn.commands import readme
from ncn.commands.generate import read_prompts
from ncn.commands.profile import apply_profile
from ncn.commands.score import read_text
from ncn.commands.summary import in_words
from ncn.common.errors import InputError
from ncn.common.files import read_json, sha256_of, write_json
from ncn.common.paths import (
    CLUSTERS,
    COMPARISON,
    SCORES,
    SUMMARY,
    TRAINING,
    model_directory,
    run_name,
    scores_directory,
    training_metrics,
)
from ncn.common.tsv import read_tsv, write_tsv
from ncn.corpus.meta import read_meta
from ncn.corpus.rows import open_rows, open_tasks
from ncn.corpus.tokenizer import load_tokenizer, train_tokenizer
from ncn.model import build_model, load_model, save_model
from ncn.publish.published_checkpoint import import_published
from ncn.published.log import published_penalty
from ncn.report.inputs import gather
from ncn.report.page import render
from ncn.settings import END_OF_TEXT, Params, Saving, Split, load_params
from ncn.sources.fetch import fetch
from ncn.studies.plan import read_study
from ncn.training.log import TrainingLog
from ncn.training.loop import go_on
from ncn.training.states import States, recorded
from ncn.training.step import Engine
from ncn.upkeep.lock import locked
from tests.conftest import PARAMS, ROOT, VOCABULARY
from tests.corpus.vocabulary import AS_IT_IS, TEXT, write_files
from tests.fuzz import records
from tests.fuzz.mutation import ODD
from tests.publish.test_published_checkpoint import published_weights
from tests.results import log_rows, write_results


class Target(NamedTuple):
    """What is read, in the present folder.

    Attributes:
        write: makes the files, whole.
        changed: a glob of those that are changed, one at a time.
        read: what must end, in what it should or in an InputError.
        weight: how often, beside the others: more where it is quick.
    """

    write: Callable[[], None]
    changed: str
    read: Callable[[random.Random], object]
    weight: float = 1


def _tiny() -> Params:
    params = load_params(PARAMS)
    shape = params.model.model_copy(
        update={"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8, "context_length": 8}
    )
    control = params.ncn.model_copy(update={"hidden": 2})
    train = params.train.model_copy(update={"micro_batch_size": 2, "grad_accum_steps": 1})
    return params.model_copy(update={"model": shape, "ncn": control, "train": train})


def _model() -> Any:
    return build_model(_tiny(), "ncn_causal", VOCABULARY, 1)


def _params() -> None:
    shutil.copy(PARAMS, "params.yaml")


def _profile() -> None:
    _params()
    Path("profiles").mkdir()
    shutil.copy(ROOT / "profiles/ablations.yaml", "profiles/p.yaml")


def _apply(draw: random.Random) -> None:
    before = Path("params.yaml").read_bytes()
    try:
        apply_profile("p", Path("params.yaml"), Path("profiles"))
        load_params("params.yaml")
    except InputError:
        assert Path("params.yaml").read_bytes() == before
        raise
    finally:
        Path("params.yaml").write_bytes(before)


def _read_model(draw: random.Random) -> None:
    model = load_model("model")
    logits = model(torch.arange(3)[None] % model.config.vocab_size)
    assert logits.shape == (1, 3, model.config.vocab_size)


def _vocabulary() -> None:
    Path("tokenizer").mkdir()
    train_tokenizer(TEXT.split(END_OF_TEXT), 270, "tokenizer")


def _encode(draw: random.Random) -> None:
    tokenizer = load_tokenizer("tokenizer")
    ids = tokenizer.encode(TEXT[:50])
    assert tokenizer.decode(ids) == TEXT[:50]
    assert max(ids) < tokenizer.vocab_size == len(tokenizer.token_bytes())


SPLIT = Split(unit="story", validation=0.2, tuning=0.1)


def _tokens() -> None:
    _vocabulary()
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    write_files([Path("text.txt")], Path("tokenizer"), SPLIT, 16, 42, Path())


def _open_tokens(draw: random.Random) -> None:
    meta = read_meta(".")
    for part in meta.parts:
        rows, tasks = open_rows(".", part)[:], open_tasks(".", part)[:]
        assert rows.shape == (len(tasks), meta.context_length + 1)
        assert rows.max() < meta.vocab_size


def _text() -> None:
    _vocabulary()
    Path("text.txt").write_text(TEXT[:6000] + "â€œHiâ€\x9d  there \n\n\n", encoding="utf-8")


def _tokenize(draw: random.Random) -> None:
    """From a file to rows: each begins where the one before it ends, with plain line ends."""
    data = load_params(PARAMS).data.model_copy(update={"source": "local", "path": "text.txt"})
    fetch(data, load_params(PARAMS).tokenizer, 1, Path("raw"))
    shutil.rmtree("out", ignore_errors=True)
    Path("out").mkdir()
    text = AS_IT_IS.model_copy(
        update={"line_ends": True, "mojibake": True, "blanks": True, "repeats": "near"}
    )
    split = SPLIT.model_copy(update={"unit": "tail"})
    files = sorted(Path("raw/text").iterdir())
    meta = write_files(files, Path("tokenizer"), split, 4, 1, Path("out"), text=text)
    tokenizer = load_tokenizer("tokenizer")
    for part in meta.parts:
        rows = open_rows("out", part)[:]
        assert "\r" not in tokenizer.decode(rows.ravel().tolist())
        assert np.array_equal(rows[:-1, -1], rows[1:, 0])


def _score(draw: random.Random) -> None:
    text = read_text(Path("text.txt"), load_tokenizer("tokenizer"))
    assert text.stories > 0
    assert text.n_bytes <= Path("text.txt").stat().st_size


def _state() -> None:
    engine = Engine(_model(), _tiny().train, seed=1)
    log = TrainingLog()
    log.add(engine.step(np.ones((2, 9), np.uint16), 1e-3))
    log.close_row(1, 16, 1e-3, {"gain": 1.0}, None, 0.5)
    log.add(engine.step(np.ones((2, 9), np.uint16), 1e-3))
    state = {"engine": engine.state_dict(), "log": log.state_dict()}
    torch.save({"format": 1, "step": 2, **state}, "state.pt")


def _go_on(changed: Path) -> None:
    """From a state that is what its name says, whatever it holds."""
    folder = Path("states")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    changed.rename(folder / f"{2:09}.{sha256_of(changed)}.pt")
    engine, log = Engine(_model(), _tiny().train, seed=1), TrainingLog()
    go_on(engine, log, States(folder, Saving(every_steps=10, every_minutes=10)))
    assert engine.steps in (0, 2)
    log.add(engine.step(np.ones((2, 9), np.uint16), 1e-3))
    log.close_row(3, 48, 1e-3, {}, None, None)


def _resume(draw: random.Random) -> None:
    shutil.copy("state.pt", "changed.pt")
    _go_on(Path("changed.pt"))


def _resume_without_parts(draw: random.Random) -> None:
    state = torch.load("state.pt", weights_only=True)
    within, key = draw.choice(list(_entries(state)))
    if draw.random() < 0.5:
        del within[key]
    else:
        within[key] = draw.choice(ODD)
    torch.save(state, "changed.pt")
    _go_on(Path("changed.pt"))


def _entries(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value in mappings and lists."""
    length = len(tree) if isinstance(tree, list) else 0
    keys: Any = tree if isinstance(tree, dict) else range(length)
    for key in list(keys):
        yield tree, key
        yield from _entries(tree[key])


def _checkpoint() -> None:
    torch.save({"model_state_dict": published_weights()}, "checkpoint.pt")


def _table() -> None:
    write_tsv("table.tsv", [{"a": "1\t2", "b": 'x"y'}, {"a": "\r\n", "b": None}])


def _table_again(draw: random.Random) -> None:
    rows = read_tsv("table.tsv")
    write_tsv("again.tsv", rows)
    assert not rows or read_tsv("again.tsv") == rows


def _two_arms() -> Params:
    params = load_params(PARAMS)
    arms = {arm: params.arms[arm] for arm in ("baseline", "ncn")}
    compare = params.compare.model_copy(update={"primary": "ncn", "reference": None})
    return params.model_copy(update={"arms": arms, "seeds": [1], "compare": compare})


def _results() -> None:
    write_results(_two_arms())


def _page(draw: random.Random) -> None:
    params = _two_arms()
    drawing = Mock()
    drawing.vegalite_to_svg.return_value = "<svg></svg>"
    # A second each time. The bundle is remembered: patched where it is asked for, not made.
    with (
        patch("ncn.report.vega.vl_convert", drawing),
        patch("ncn.report.page.bundle", return_value=""),
    ):
        assert "<html" in render(params, gather(params))


def _claims(draw: random.Random) -> None:
    params = _two_arms()
    assert judge(read_metrics(params))["claims"]


def _scores() -> None:
    """What two runs of an arm leave, a few clusters each."""
    for seed in (1, 2):
        run = run_name("ncn", seed)
        scores_directory(run).mkdir(parents=True)
        model_directory(run).mkdir(parents=True)
        rows = [{"story": n, "tokens": 9 + n, "loss": 1.5 + n / 10} for n in range(5)]
        write_tsv(scores_directory(run) / CLUSTERS, rows)
        scored = {"sequences": 5, "future_leak": 0.0, "val_bpb": 0.5}
        write_json(scores_directory(run) / SCORES, scored)
        write_json(model_directory(run) / TRAINING, dict.fromkeys(NEEDED, 7))


def _summarise(draw: random.Random) -> None:
    assert in_words(read_json(SUMMARY), read_json(COMPARISON))


def _locks() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    Path("requirements.lock").write_text("\n".join(lines[:12]), encoding="utf-8")
    out = {"path": "data/models/ncn-1", "md5": "0" * 32 + ".dir"}
    lock = {"schema": "2.0", "stages": {"train@ncn-1": {"cmd": "x", "outs": [out]}}}
    Path("dvc.lock").write_text(json.dumps(lock, indent=1), encoding="utf-8")


def _read_locks(draw: random.Random) -> None:
    recorded("train@ncn-1", Path("data/models/ncn-1"))
    locked(Path("requirements.lock"))


def _prompts() -> None:
    Path("prompts.txt").write_text("Once upon a time\nThe dog\n", encoding="utf-8")


def _frozen() -> None:
    """A study of two sizes, as it lies in git."""
    for size, parameters in (("s", 10), ("m", 20)):
        arms = {
            arm: {"val_loss": {"by_seed": {str(seed): 1.5 + seed / 9 for seed in (1, 2, 3)}}}
            for arm in ("baseline", "ncn")
        }
        write_json(Path("studies/p") / size / COMPARISON, {"arms": arms})
        for arm in arms:
            for seed in (1, 2, 3):
                path = Path("studies/p") / size / training_metrics(run_name(arm, seed))
                write_json(path, dict.fromkeys(NEEDED, parameters))


def _scale(draw: random.Random) -> None:
    assert in_table(scaling_of_studies(seed=1))


def _series() -> None:
    rows = [
        {"step": 20 * n, "loss": f"{9 / n:.4f}", "ppl": f"{n}", "reg": "0.0033", "lr": "6e-4"}
        for n in range(1, 40)
    ]
    write_tsv("series.tsv", rows)


def _read_series(draw: random.Random) -> None:
    log = analyse_log("series.tsv", "published", "-", load_params(PARAMS).convergence, 32768)
    if not log.missing:
        assert published_penalty(Path("series.tsv"))["points"] > 0


def _study() -> None:
    _params()
    shutil.copytree(ROOT / "profiles", "profiles")
    Path("studies/p").mkdir(parents=True)
    Path("studies/p/plan.md").touch()
    shutil.copy(ROOT / "studies/pilot/profile.yaml", "studies/p/profile.yaml")


def _read_study(draw: random.Random) -> None:
    study = read_study("p")
    for size in study.sizes:
        study.params(size)


def _log() -> None:
    write_tsv("log.tsv", log_rows("ncn", 1, True))


def _analyse(draw: random.Random) -> None:
    """Never raises: what is wrong with a log is said."""
    log = analyse_log("log.tsv", "ncn", "1", load_params(PARAMS).convergence, warmup_steps=3)
    assert (log.end is None) == (log.missing is not None)
    json.dumps(log.summary, allow_nan=False)


TARGETS: dict[str, Target] = {
    "params": Target(_params, "params.yaml", lambda _: load_params("params.yaml"), 4),
    "profile": Target(_profile, "profiles/p.yaml", _apply),
    "text": Target(_text, "text.txt", _tokenize),
    "score": Target(_text, "text.txt", _score, 4),
    "tokenizer": Target(_vocabulary, "tokenizer/*", _encode, 16),
    "rows": Target(_tokens, "*.[jbt]*", _open_tokens, 8),
    "model": Target(lambda: save_model(_model(), "model"), "model/*", _read_model, 4),
    "checkpoint": Target(_checkpoint, "*.pt", lambda _: import_published("checkpoint.pt", 4), 4),
    "state": Target(_state, "state.pt", _resume, 2),
    "state_parts": Target(_state, "", _resume_without_parts, 2),
    "table": Target(_table, "table.tsv", _table_again, 16),
    "log": Target(_log, "log.tsv", _analyse, 4),
    "scores": Target(_scores, "data/**/*.*", lambda _: read_scores("ncn", [1, 2]), 8),
    "page": Target(_results, "[mp]*/**/*.*", _page),
    "claims": Target(_results, "metrics/**/*.json", _claims),
    "readme": Target(_results, "metrics/*.json", lambda _: readme.block(), 4),
    "summary": Target(_results, "metrics/*.json", _summarise, 4),
    "frozen": Target(_frozen, "studies/**/*.json", _scale),
    "series": Target(_series, "series.tsv", _read_series, 4),
    "study": Target(_study, "studies/p/*.yaml", _read_study),
    "locks": Target(_locks, "*.lock", _read_locks),
    "manifest": Target(records.write_manifest, "data/raw/*.json", records.read_manifest),
    "experiment": Target(records.write_experiment, "**/*.[yj]*", records.read_experiment),
    "notes": Target(records.write_notes, "**/*.*", records.read_notes, 4),
    "trials": Target(records.write_trials, "**/*.*", records.read_trials, 4),
    "frozen_study": Target(records.write_study, "studies/**/*.json", records.read_frozen),
    "card": Target(
        lambda: records.write_card(_model()),
        "metrics/**/*.json",
        lambda _: records.read_card(_model()),
        0.2,
    ),
    "figures": Target(_results, "[mp]*/**/*.*", records.read_figures, 0.1),
    "hub": Target(records.write_answers, "*.json", records.read_answers, 0.1),
    "prompts": Target(_prompts, "prompts.txt", lambda _: read_prompts("prompts.txt"), 8),
}
