"""Which things a story keeps."""

import numpy as np
import pytest
import torch

from ncn.generation.object_permanence import (
    continued,
    halves,
    kept_in,
    named_again,
    shuffled,
    things_in,
)
from ncn.generation.sampling import Sampling
from ncn.model import LanguageModel
from ncn.settings import END_OF_TEXT, Params
from tests.conftest import VOCABULARY, special


class Letters:
    """A token a character; the last is the end of text."""

    end_of_text = VOCABULARY - 1

    def decode(self, ids: list[int]) -> str:
        return "".join(END_OF_TEXT if i == self.end_of_text else chr(32 + i % 95) for i in ids)

    def encode(self, text: str) -> list[int]:
        pieces = [[ord(letter) - 32 for letter in part] for part in text.split(END_OF_TEXT)]
        return [i for n, part in enumerate(pieces) for i in ([self.end_of_text] * (n > 0) + part)]


def test_things_are_what_articles_introduce_and_names_within_sentences() -> None:
    story = "Once upon a time there was a tiny dragon. The dragon met his friend Tim at the box."
    assert things_in(story) == ["box", "dragon", "tim"]
    assert things_in("a cat" + END_OF_TEXT + "the dog ran") == ["dog"]
    assert things_in("He ran. They sat.") == []


def test_a_thing_is_kept_if_its_story_names_it_again() -> None:
    assert named_again(["box", "tim"], " and Tim had two boxes") == 1
    assert named_again(["box"], "Boxs") == named_again(["box"], "the box.") == 1
    assert named_again(["box"], "sandbox") == 0
    assert named_again(["box"], "bye" + END_OF_TEXT + "the box") == 0


def rows(*texts: str) -> np.ndarray:
    tokenizer = Letters()
    return np.array([tokenizer.encode(text.ljust(40)) for text in texts]).astype(np.uint16)


def test_rows_that_begin_nothing_drop_out_and_the_text_is_counted_like_a_model() -> None:
    cut = halves(
        rows("he saw the red box   then the box fell", "he ran and ran       then he fell"),
        Letters(),  # type: ignore[arg-type]
    )
    assert cut.things == [["red"]] or cut.things == [["box"]]
    assert cut.prompts.shape == (1, 20)
    cut = halves(rows("he saw the box       then the box fell"), Letters())  # type: ignore[arg-type]
    assert (cut.things, kept_in(cut.things, cut.rest)) == ([["box"]], [1])


def test_the_control_looks_for_things_in_another_rows_text() -> None:
    things, texts = [["box"], ["dog"], ["tim"]], ["a box", "a dog", "the box and Tim"]
    assert kept_in(things, texts) == [1, 1, 1]
    moved = shuffled(texts)
    assert sorted(moved) == sorted(texts)
    assert not any(old == new for old, new in zip(texts, moved, strict=True))
    assert kept_in(things, moved) == [0, 0, 0]


def test_a_model_is_counted_on_what_it_writes_itself(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = special(tiny, controller="none"), Letters()
    cut = halves(rows("he saw the box", "he saw the dog"), tokenizer)  # type: ignore[arg-type]

    def parrot(_model: LanguageModel, prompts: torch.Tensor, length: int, *_: object, **__: object):
        written = torch.tensor(tokenizer.encode(" a box fell".ljust(length)))
        return torch.cat([prompts, written.expand(len(prompts), -1)], dim=1)

    monkeypatch.setattr("ncn.generation.object_permanence.generate", parrot)
    written = continued(model, cut.prompts, 20, tokenizer, Sampling(), 0)  # type: ignore[arg-type]
    assert kept_in(cut.things, written) == [1, 0]


def test_the_same_seed_keeps_the_same_things(tiny: Params) -> None:
    model = special(tiny, salience="causal")
    cut = halves(rows("he saw the box", "he saw the dog"), Letters())  # type: ignore[arg-type]
    first, again = (
        continued(model, cut.prompts, 15, Letters(), Sampling(), 3)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert first == again
    assert len(first) == 2
