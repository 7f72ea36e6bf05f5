"""Tokenizing and scoring, each beside the plain loop of the library that it could be left to.

Tokenizing is timed as the stage does it, from a text file to rows on disk, and as the encoder
alone; the libraries' loops read the same file and write the same ids. The text is of few distinct
words, as stories are, and the same with every tenth word made up, which no encoder has met before.
Scoring is timed beside a `torch.nn.TransformerEncoder` of the same shape.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import tokenizers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ncn.benchmark.timing import compared, in_turn
from ncn.benchmark.training import random_rows
from ncn.corpus.choice import choose_stories
from ncn.corpus.encode import write_corpus
from ncn.corpus.ranges import MAX_WORDS, count_stories
from ncn.corpus.rows import TOKEN, Rows
from ncn.corpus.tokenizer import GPT2_VOCABULARY, load_tokenizer, train_tokenizer
from ncn.corpus.words import WordEncoder
from ncn.model import build_model
from ncn.model.inputs import split_rows
from ncn.scoring.losses import score_tokens
from ncn.settings import BASELINE, END_OF_TEXT, ModelConfig, Params, load_params
from ncn.sources.stories import write_stories

STORIES, ROUNDS = 4000, 5
MADE_UP = 0.1  # of the words of the second text
SCORED_TOKENS = 4096
STAGE, ENCODER = "the stage, from file to rows", "its encoder alone"
TIKTOKEN, TOKENIZERS = "tiktoken's loop", "tokenizers' loop"
OURS, PLAIN = "evaluate", "nn.TransformerEncoder"

Encode = Callable[[str], bytes]
Ways = dict[str, Callable[[], Any]]


def texts() -> dict[str, str]:
    """The text of each kind, stories that `<|endoftext|>` ends."""
    draw, stories = Random(0), list(write_stories(STORIES, seed=0))

    def made_up(word: str) -> str:
        return "".join(draw.choices("aeioubdfgklmnprst", k=7)) if draw.random() < MADE_UP else word

    others = (" ".join(map(made_up, story.split(" "))) for story in stories)
    kinds: dict[str, Iterable[str]] = {"of few words": stories, "every tenth made up": others}
    return {kind: "".join(each + END_OF_TEXT for each in of) for kind, of in kinds.items()}


def ways_to_tokenize(file: Path, vocabulary: Path, params: Params) -> Ways:
    """Each way from `file` to ids on disk, beside it: all of them in one file, see `ids_of`, but
    the stage's, which come as rows into `tokens/`.
    """
    tokenizer = load_tokenizer(vocabulary)
    library = tokenizers.ByteLevelBPETokenizer.from_file(
        str(vocabulary / "vocab.json"), str(vocabulary / "merges.txt")
    )
    split, length = params.split, params.model.context_length
    (out := file.parent / "tokens").mkdir(exist_ok=True)

    def stage() -> None:
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            scratch = Path(folder)
            # At a new place: a process keeps the words that it has met by that of the vocabulary.
            mine = Path(shutil.copytree(vocabulary, scratch / "vocabulary"))
            corpus = count_stories([file], params.text, scratch)
            drawn = split.unit == "story"
            parts, found = choose_stories(corpus, split, params.seed, scratch, drawn)
            write_corpus(corpus, parts, found, mine, split, length, params.seed, out, scratch)

    def loop(way: str, encoder: Callable[[], Encode]) -> None:
        encode, end = encoder(), _bytes([tokenizer.end_of_text])
        with open(ids_of(file, way), "wb") as ids:
            for story in file.read_text(encoding="utf-8").split(END_OF_TEXT)[:-1]:
                ids.write(encode(story) + end)

    # What has met no word yet is part of the time.
    encoders: dict[str, Callable[[], Encode]] = {
        ENCODER: lambda: WordEncoder(tokenizer, MAX_WORDS).encode,
        TIKTOKEN: lambda: lambda story: _bytes(tokenizer.encode(story)),
        TOKENIZERS: lambda: lambda story: _bytes(library.encode(story).ids),
    }
    return {STAGE: stage} | {way: partial(loop, way, make) for way, make in encoders.items()}


def ids_of(file: Path, way: str) -> Path:
    """Where a way but the stage's leaves its ids."""
    return file.with_name(f"{way}.bin")


def _bytes(ids: Sequence[int]) -> bytes:
    return np.array(ids, TOKEN).tobytes()


class PlainModel(nn.Module):
    """The shape of `config` as torch's own layers have it, without a control network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.context_length, config.d_model)
        layer = nn.TransformerEncoderLayer(
            config.d_model, config.n_heads, config.d_ff, dropout=0.0, activation="gelu",
            batch_first=True, norm_first=True,
        )  # fmt: skip
        norm = nn.LayerNorm(config.d_model)
        self.layers = nn.TransformerEncoder(
            layer, config.n_layers, norm, enable_nested_tensor=False
        )

    def token_losses(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each target in nats, [B, T], from tokens and targets [B, T]."""
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        embedded = self.embedding(tokens) + self.positions.weight[:length]
        hidden = self.layers(embedded, mask=mask, is_causal=True)  # [B, T, D]
        logits = F.linear(hidden, self.embedding.weight)  # [B, T, V]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(
            targets.shape
        )


def ways_to_score(params: Params, rows: Rows, vocab_size: int, device: torch.device) -> Ways:
    """The losses of rows [N, T + 1] by each way, some rows at a time: `eval.batch_size`."""
    model = build_model(params, BASELINE, vocab_size).to(device).eval()
    plain, size = PlainModel(model.config).to(device).eval(), params.eval.batch_size

    @torch.inference_mode()
    def loop() -> Tensor:
        losses = []
        for start in range(0, len(rows), size):
            tokens, targets, _ = split_rows(rows[start : start + size], device)
            losses.append(plain.token_losses(tokens, targets).cpu())
        return torch.cat(losses)

    return {OURS: lambda: score_tokens(model, rows, size), PLAIN: loop}


def libraries(params: Params, device: torch.device) -> dict[str, Any]:
    """The way of each kind of text, and of each size of model, beside the library's."""
    small = load_params()
    texts_, sizes = {}, {}
    for kind, text in texts().items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "text.txt"
            file.write_text(text, encoding="utf-8")
            vocabulary = Path(folder) / "vocabulary"
            train_tokenizer(text.split(END_OF_TEXT), small.tokenizer.vocab_size, vocabulary)
            seconds = in_turn(ways_to_tokenize(file, vocabulary, small), ROUNDS, kind)
            size = file.stat().st_size
            texts_[kind] = {"bytes": size, "ways": compared(seconds, TIKTOKEN)}
    of_size = {
        "params.yaml": (small, small.tokenizer.vocab_size),
        "published": (params, GPT2_VOCABULARY),
    }
    for name, (of, vocab_size) in of_size.items():
        length = of.model.context_length
        rows = random_rows(SCORED_TOKENS // length, length, vocab_size)
        seconds = in_turn(ways_to_score(of, rows, vocab_size, device), ROUNDS, f"score, {name}")
        sizes[name] = {"tokens": rows[:, 1:].size, "ways": compared(seconds, PLAIN)}
    return {"rounds": ROUNDS, "texts": texts_, "sizes": sizes}


def libraries_table(figures: dict[str, Any]) -> list[str]:
    """The same as Markdown."""
    return [
        f"## Tokenizing, one process, and scoring, beside libraries: {figures['rounds']} rounds",
        "",
        "| text | way | MB/s | seconds, ratio to tiktoken's loop |",
        "|---|---|---|---|",
        *(
            f"| {of['bytes'] / 1e6:.1f} MB {kind} | {way} |"
            f" {of['bytes'] / each['seconds'] / 1e6:.1f} | {each['ratio']:.3f} |"
            for kind, of in figures["texts"].items()
            for way, each in of["ways"].items()
        ),
        "",
        "| baseline's size | way | tokens/s | seconds, ratio to torch's layers |",
        "|---|---|---|---|",
        *(
            f"| {name} | {way} | {of['tokens'] / each['seconds']:,.0f} | {each['ratio']:.3f} |"
            for name, of in figures["sizes"].items()
            for way, each in of["ways"].items()
        ),
    ]
