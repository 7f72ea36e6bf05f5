"""What is timed beside a library does the same work."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ncn.benchmark import libraries
from ncn.benchmark.training import random_rows
from ncn.corpus.meta import read_meta
from ncn.corpus.rows import TOKEN
from ncn.corpus.tokenizer import train_tokenizer
from ncn.model import build_model
from ncn.model.inputs import split_rows
from ncn.settings import END_OF_TEXT, Params
from tests.conftest import VOCABULARY


def test_every_way_to_tokenize_gives_the_same_ids(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "STORIES", 20)
    for kind, text in libraries.texts().items():
        folder = tmp_path / kind
        folder.mkdir()
        (file := folder / "text.txt").write_text(text, encoding="utf-8")
        train_tokenizer(text.split(END_OF_TEXT), 400, folder / "vocabulary")
        ways = libraries.ways_to_tokenize(file, folder / "vocabulary", params)
        for run in ways.values():
            run()
        ids, *others = (
            np.fromfile(libraries.ids_of(file, way), TOKEN)
            for way in ways
            if way != libraries.STAGE
        )
        assert [np.array_equal(ids, each) for each in others] == [True, True]
        meta = read_meta(folder / "tokens")
        assert meta.tokens == len(ids)
        assert meta.stories == np.count_nonzero(ids == meta.end_of_text) == 20


def test_a_word_in_ten_of_the_second_text_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "STORIES", 100)
    first, second = (text.split(" ") for text in libraries.texts().values())
    changed = np.mean([a != b for a, b in zip(first, second, strict=True)])
    assert 0.05 < changed < 0.15


def test_the_plain_model_has_the_shape_and_sees_no_later_token(tiny: Params) -> None:
    torch.manual_seed(0)
    rows = random_rows(5, tiny.model.context_length, VOCABULARY)
    ways = libraries.ways_to_score(tiny, rows, VOCABULARY, torch.device("cpu"))
    ours, theirs = (np.asarray(ways[way]()) for way in (libraries.OURS, libraries.PLAIN))
    assert ours.shape == theirs.shape == rows[:, 1:].shape
    assert np.isfinite(theirs).all()
    model = build_model(tiny, "baseline", VOCABULARY)
    plain = libraries.PlainModel(model.config).eval()
    sizes = [sum(each.numel() for each in one.parameters()) for one in (model, plain)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)
    changed = rows.copy()
    changed[:, 20:] = (rows[:, 20:] + 1) % VOCABULARY
    with torch.inference_mode():
        before, after = (
            plain.token_losses(*split_rows(each, torch.device("cpu"))[:2])
            for each in (rows, changed)
        )
    assert torch.allclose(before[:, :19], after[:, :19], atol=1e-5)
    assert not torch.allclose(before[:, 19:], after[:, 19:], atol=1e-5)


def test_the_table_is_in_megabytes_and_tokens_a_second() -> None:
    way = {"seconds": 0.5, "ratio": 0.25}
    figures = {
        "rounds": 5,
        "texts": {"of few words": {"bytes": 4e6, "ways": {libraries.STAGE: way}}},
        "sizes": {"published": {"tokens": 4096, "ways": {libraries.OURS: way}}},
    }
    lines = libraries.libraries_table(figures)
    assert f"| 4.0 MB of few words | {libraries.STAGE} | 8.0 | 0.250 |" in lines
    assert f"| published | {libraries.OURS} | 8,192 | 0.250 |" in lines
