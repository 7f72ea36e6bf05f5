"""`python -m ncn score MODEL FILE`: what a trained model makes of a text."""

import argparse
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncn.commands.generate import load_with_tokenizer
from ncn.common.errors import InputError
from ncn.common.paths import TOKENIZER
from ncn.common.progress import byte_bar
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.corpus.tokenizer import Tokenizer
from ncn.generation.decoding import conditions_of, generation_salience
from ncn.generation.matrices import WEIGHTS, rounded
from ncn.model import LanguageModel
from ncn.model.device import pick_device
from ncn.model.inputs import ConditionedRows
from ncn.publish.hub import fetch_model
from ncn.publish.other_models import FILES, OtherModel, OtherTokenizer, is_of_others, load_other
from ncn.scoring.losses import Scored, score_tokens
from ncn.settings import END_OF_TEXT, MAX_VOCABULARY, Salience
from ncn.text.stories import stories_of

STDIN = Path("/dev/stdin")
PIECE = 1 << 20  # characters encoded at once: tiktoken's list of ids takes 9 times their memory
# A token of GPT-2's pattern never goes on from a letter or sign to white space: a text may be cut
# there without changing its tokens.
CUT = re.compile(r"(?<=\S)(?=[ \n])")


@contextmanager
def seekable(path: Path) -> Iterator[Path]:
    """A file with what `path` gives: itself, or a copy of what comes through a pipe."""
    if path.is_file():
        yield path
        return
    with tempfile.NamedTemporaryFile() as copy:
        with open(path, "rb") as piped:
            shutil.copyfileobj(piped, copy)
        copy.flush()
        yield Path(copy.name)


class Text(NamedTuple):
    """A text as the model reads it: <|endoftext|> and the tokens of a story, for each story.

    The first <|endoftext|> is given, every token after it is predicted.
    """

    tokens: NDArray[Any]  # uint16, or int32 of a larger vocabulary
    n_bytes: int  # of what is predicted
    stories: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a directory, as data/models/ncn-1, or OWNER/NAME of a hub")
    add("file", metavar="FILE", help=f"UTF-8, {END_OF_TEXT} between stories; -: standard input")
    add("--salience", choices=("causal", "reactive"), help="another than the model's own")
    add("--task", metavar="N", type=int, help="of a model with tasks: the text file's number")
    add("--weights", choices=WEIGHTS, default="fp32", help="int8: rounded as `generate` has them")
    add("--batch-size", metavar="N", type=int, default=8, help="windows at once (%(default)s)")
    add("--tokenizer", metavar="DIR", help=f"the model's (its own folder, or {TOKENIZER})")


def run(arguments: argparse.Namespace) -> None:
    """Print the loss, perplexity and bits a byte of a text, read in windows of the context."""
    if arguments.batch_size < 1:
        raise InputError(f"--batch-size {arguments.batch_size}: allowed are 1 and more")
    path = STDIN if arguments.file == "-" else Path(arguments.file)
    if not path.exists():
        raise InputError(f"{path} does not exist: name a text file, or - for standard input")
    folder = fetch_model(arguments.model, others=FILES)
    model: LanguageModel | OtherModel
    tokenizer: Tokenizer | OtherTokenizer
    if is_of_others(folder):
        for name in ("salience", "task", "tokenizer", "weights"):
            if getattr(arguments, name) not in (None, "fp32"):
                raise InputError(f"--{name}: {arguments.model} is no model of this project")
        model, tokenizer = load_other(folder)
        length, conditions, control = model.context_length, NO_CONDITIONS, None
        model.to(pick_device())
    else:
        model, tokenizer = load_with_tokenizer(str(folder), arguments.tokenizer)
        length, control = model.config.context_length, model.config.control
        conditions = conditions_of(model, arguments.task)
        if arguments.salience and generation_salience(model, None) is None:
            raise InputError(f"--salience {arguments.salience}: {arguments.model} pools nothing")
        if arguments.weights == "int8":
            model = rounded(model)
    with seekable(path) as file:
        text = read_text(file, tokenizer)
    print(
        f"{arguments.file}: {text.n_bytes:,} bytes, {len(text.tokens) - 1:,} tokens,"
        f" {text.stories:,} {'story' if text.stories == 1 else 'stories'}"
    )
    future = control is not None and control.salience == "global" and not arguments.salience
    modes: list[Salience | None] = [arguments.salience]
    if future:
        modes.append("reactive")
    print(f"{'':12}{'loss':>10}{'perplexity':>14}{'bits a byte':>14}", flush=True)
    for mode in modes:
        losses = token_losses(model, length, text.tokens, arguments.batch_size, mode, conditions)
        total = float(losses.sum(dtype="float64"))
        mean = total / len(losses)
        print(
            f"{mode or 'as trained':12}{mean:10.4f}{perplexity(mean):>14}"
            f"{total / math.log(2) / text.n_bytes:14.4f}",
            flush=True,
        )
    if future:
        print(
            "as trained, this model reads the future: each prediction sees the tokens that it is to"
            " predict, so that only the reactive line, which is how it generates, is a language"
            " model's"
        )


def perplexity(loss: float) -> str:
    """exp(loss), which is beyond any float for a loss that is far off."""
    return f"{math.exp(loss):.4f}" if loss < 100 else f"e^{loss:.1f}"


def read_text(path: Path, tokenizer: Tokenizer | OtherTokenizer) -> Text:
    """The tokens of a file, in 2 or 4 bytes each, however long it is.

    Raises:
        InputError: it is not UTF-8, or there is nothing in it.
    """
    dtype = np.uint16 if tokenizer.vocab_size <= MAX_VOCABULARY else np.int32
    parts: list[NDArray[Any]] = []
    n_bytes = stories = 0
    size = path.stat().st_size if path.is_file() else None
    with byte_bar(size, "read", delay=1) as bar:
        for story in stories_of(path):
            parts.append(np.array([tokenizer.end_of_text], dtype))
            n_bytes += len(END_OF_TEXT) if stories else 0
            stories += 1
            # Where another tokenizer may be fed in pieces is not known.
            for piece in pieces(story) if isinstance(tokenizer, Tokenizer) else [story]:
                parts.append(np.array(tokenizer.encode(piece), dtype))
                n_bytes += (length := len(piece.encode()))
                bar.update(length)
    if not stories:
        raise InputError(f"{path} holds no text to score")
    return Text(np.concatenate(parts), n_bytes, stories)


def pieces(story: str) -> Iterator[str]:
    """A text cut where tokens end, about every PIECE characters."""
    start = 0
    while cut := CUT.search(story, start + PIECE):
        yield story[start : cut.start()]
        start = cut.start()
    yield story[start:]


def token_losses(
    model: Scored,
    length: int,
    tokens: NDArray[Any],
    batch_size: int,
    salience: Salience | None,
    conditions: Conditions,
) -> NDArray[np.float32]:
    """The loss in nats of each token but the first, [N - 1], as the pipeline scores its rows.

    The text is cut into windows of the context's length, the last one shorter.
    """
    whole = (len(tokens) - 1) // length * length
    windows = []
    if whole:
        rows = np.lib.stride_tricks.sliding_window_view(tokens[: whole + 1], length + 1)
        windows.append(rows[::length])  # a view: each row's last token is the next one's first
    if whole + 1 < len(tokens):
        windows.append(tokens[None, whole:])
    description = f"score {salience or 'as trained'}"
    losses = []
    for rows in windows:
        task = None if conditions.task is None else conditions.task.cpu().expand(len(rows))
        conditioned = ConditionedRows(rows, Conditions(task))
        losses.append(score_tokens(model, conditioned, batch_size, salience, description).ravel())
    return np.concatenate(losses)
