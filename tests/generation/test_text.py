"""Text out of tokens: pieces that add up to it, prompts that do not disturb each other."""

from hypothesis import given
from hypothesis import strategies as st

from ncn.corpus.tokenizer import Tokenizer
from ncn.generation.sampling import Sampling
from ncn.generation.text import continue_texts, stream_text
from ncn.model import build_model
from ncn.settings import END_OF_TEXT, Params
from tests.generation.saved import lively


def test_a_streamed_piece_never_splits_a_character(tokenizer: Tokenizer) -> None:
    text = "é 🐉🐉\ufffd x"
    ids = [
        token
        for byte in text.encode()
        for token in range(256)
        if piece_of(tokenizer, token) == byte
    ]
    assert len(ids) == len(text.encode())
    pieces = list(stream_text(tokenizer, ids))
    assert "".join(pieces) == text
    assert pieces[:3] == ["é", " ", "🐉"]


def piece_of(tokenizer: Tokenizer, token: int) -> int:
    (byte,) = tokenizer._encoding.decode_single_token_bytes(token)
    return byte


@given(st.lists(st.integers(0, 288), max_size=30))
def test_streamed_pieces_add_up_to_the_text_for_any_tokens(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    kept = ids[: ids.index(tokenizer.end_of_text)] if tokenizer.end_of_text in ids else ids
    assert "".join(stream_text(tokenizer, ids)) == tokenizer.decode(kept)


def test_prompts_of_any_lengths_give_what_each_gives_alone(
    tiny: Params, tokenizer: Tokenizer
) -> None:
    model = lively(build_model(tiny, "ncn", 290))
    prompts = ["Once upon", "a tiny", "", "Once upon", "dragon " * 3]
    sampling = Sampling(0.9, 20)
    texts = continue_texts(model, tokenizer, prompts, 30, sampling, 5)
    for number, prompt in enumerate(prompts):
        assert continue_texts(model, tokenizer, [prompt], 30, sampling, 5 + number) == [
            texts[number]
        ]
    assert texts[0] != texts[3]
    assert END_OF_TEXT not in "".join(texts)
