"""What the control network is told of each row, from the files to the optimiser step."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ncn.common.errors import InputError
from ncn.control.network import ControlNetwork
from ncn.corpus.conditions import Conditions
from ncn.corpus.rows import open_rows
from ncn.corpus.tokenizer import load_tokenizer, train_tokenizer
from ncn.model import LanguageModel, build_model
from ncn.model.inputs import ConditionedRows, measured, split_rows, training_rows, validation_rows
from ncn.scoring.losses import score_tokens
from ncn.settings import END_OF_TEXT, Params, Split
from ncn.training.loop import train_model
from ncn.training.step import Engine
from tests.conftest import VOCABULARY, with_arm
from tests.corpus.vocabulary import write_files

CPU = torch.device("cpu")
PLAIN = ["Tom ran to the big house by the sea", "A bird sat down"] * 20
SPOKEN = ['"Oh!" said Tom, "I like you." He ran', '“Yes” and "no"'] * 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of two text files, one plain, one full of talk."""
    directory = tmp_path_factory.mktemp("tokens")
    train_tokenizer(PLAIN + SPOKEN, 290, directory / "tokenizer")
    files = [directory / "plain.txt", directory / "spoken.txt"]
    for file, stories in zip(files, (PLAIN, SPOKEN), strict=True):
        file.write_text("".join(story + END_OF_TEXT for story in stories), encoding="utf-8")
    split = Split(unit="story", validation=0.2, tuning=0.0)
    write_files(files, directory / "tokenizer", split, 12, 1, directory)
    return directory


def model_with(params: Params, **inputs: object) -> LanguageModel:
    return build_model(with_arm(params, **inputs), "special", 290, 1)


def test_a_row_is_told_its_task_and_its_own_measures(tiny: Params, corpus: Path) -> None:
    model = model_with(tiny, tasks=2, sliders=["dialogue"])
    rows = training_rows(corpus, model)
    task, sliders = rows.conditions.task, rows.conditions.sliders
    assert task is not None
    assert sliders is not None
    assert set(task.tolist()) == {0, 1}
    # Nobody speaks in the first file; standardised over the training part.
    assert sliders[task == 1].min() > sliders[task == 0].median()
    assert sliders.mean().item() == pytest.approx(0, abs=1e-5)
    assert sliders.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    control = model.control
    assert isinstance(control, ControlNetwork)
    raw = sliders * control.slider_sd + control.slider_mean
    tokenizer = load_tokenizer(corpus / "tokenizer")
    for row, value in zip(rows.tokens[:20].tolist(), raw[:20, 0].tolist(), strict=True):
        pieces = [tokenizer.token_bytes()[token] for token in row]
        spoken = [b'"' in p or "“".encode() in p or "”".encode() in p for p in pieces]
        assert value == pytest.approx(np.mean(spoken), abs=1e-5)


def test_a_model_with_task_tokens_is_told_the_task_of_each_row(tiny: Params, corpus: Path) -> None:
    model = model_with(tiny, controller="none", task_tokens=2)
    task = training_rows(corpus, model).conditions.task
    assert task is not None
    assert set(task.tolist()) == {0, 1}
    few = model_with(tiny, controller="none", task_tokens=1)
    with pytest.raises(InputError, match=r"model\.task_tokens 1: .* was made of 2 text files"):
        training_rows(corpus, few)


def test_token_bytes_are_the_bytes_of_the_rows_text(corpus: Path) -> None:
    tokenizer, rows = load_tokenizer(corpus / "tokenizer"), open_rows(corpus, "train")[:]
    values = measured(rows, ["dialogue", "token_bytes"], tokenizer)
    assert values.shape == (len(rows), 2)
    expected = [sum(map(len, map(tokenizer.token_bytes().__getitem__, row))) / 13 for row in rows]
    assert values[:, 1].tolist() == pytest.approx(expected)


def test_scored_rows_are_told_their_task_and_neutral_sliders(tiny: Params, corpus: Path) -> None:
    rows = validation_rows(corpus, model_with(tiny, tasks=5, sliders=["dialogue"]))
    assert rows.conditions.sliders is None
    assert rows.conditions.task is not None
    assert len(rows.conditions.task) == len(rows)
    for settings in ({}, {"controller": "none", "tasks": 2}):
        untold = validation_rows(corpus, model_with(tiny, **settings))
        assert untold.conditions.task is None


def test_more_text_files_than_tasks_are_refused(tiny: Params, corpus: Path) -> None:
    model = model_with(tiny, tasks=1)
    for rows in (training_rows, validation_rows):
        with pytest.raises(InputError, match=r"ncn\.tasks 1: .* made of 2 text files, .* 2 and"):
            rows(corpus, model)


def test_a_slider_that_measures_nothing_is_refused(tiny: Params, tmp_path: Path) -> None:
    train_tokenizer(PLAIN, 280, tmp_path / "tokenizer")
    file = tmp_path / "plain.txt"
    file.write_text(END_OF_TEXT.join(PLAIN))
    split = Split(unit="story", validation=0.2, tuning=0.0)
    write_files([file], tmp_path / "tokenizer", split, 12, 1, tmp_path)
    with pytest.raises(InputError, match=r"ncn\.sliders: dialogue is 0 in every training row"):
        training_rows(tmp_path, model_with(tiny, sliders=["dialogue"]))


def told(n: int = 8) -> ConditionedRows:
    tokens = np.random.default_rng(0).integers(VOCABULARY, size=(n, 17)).astype(np.uint16)
    return ConditionedRows(
        tokens, Conditions(torch.arange(n) % 3, torch.linspace(-2, 2, n)[:, None])
    )


def test_chosen_rows_keep_their_conditions() -> None:
    rows = told()
    for chosen in (slice(2, 5), [7, 0, 7], np.array([1, 3])):
        tokens, targets, conditions = split_rows(rows[chosen], CPU)
        assert np.array_equal(tokens.numpy(), rows.tokens[chosen][:, :-1])
        assert np.array_equal(targets.numpy(), rows.tokens[chosen][:, 1:])
        assert torch.equal(conditions.task, torch.arange(8)[chosen] % 3)  # type: ignore[arg-type]
        assert torch.equal(conditions.sliders, rows.conditions.sliders[chosen])  # type: ignore


def test_micro_batches_hear_of_their_own_rows(tiny: Params) -> None:
    """A batch cut into micro-batches makes the step of the whole batch."""
    weights = []
    for micro in (8, 2):
        train = tiny.train.model_copy(
            update={"micro_batch_size": micro, "grad_accum_steps": 8 // micro}
        )
        model = build_model(with_arm(tiny, tasks=3, sliders=["dialogue"]), "special", VOCABULARY, 1)
        Engine(model.double(), train, 1).step(told(), 1e-3)
        assert isinstance(model.control, ControlNetwork)
        weights.append((model.control.tasks.weight, model.control.sliders.weight))
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other)


def test_a_model_learns_what_only_its_task_tells(tiny: Params) -> None:
    """One task's second token is 5, the other's 6, whatever the first: without the task, a coin."""
    first = np.random.default_rng(0).integers(VOCABULARY, size=32).repeat(2)
    task = np.arange(64) % 2
    tokens = np.stack([first, 5 + task], axis=1)
    conditions = Conditions(torch.from_numpy(task))
    train = tiny.train.model_copy(
        update={"lr": 1e-2, "warmup_steps": 5, "micro_batch_size": 16, "epochs": 60.0}
    )
    losses = {}
    for name, rows in (
        ("told", ConditionedRows(tokens.astype(np.uint16), conditions)),
        ("untold", ConditionedRows(tokens.astype(np.uint16))),
    ):
        model = build_model(with_arm(tiny, tasks=2), "special", VOCABULARY, 1)
        train_model(model, rows, train, 1, name)
        losses[name] = score_tokens(model, rows, 16).mean()
    assert losses["told"] < 0.1 < np.log(2) - 0.01 < losses["untold"]
