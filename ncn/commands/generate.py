"""`python -m ncn generate`: continue a prompt, or each of a file, up to the end of the story."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch

from ncn.common.errors import InputError
from ncn.common.paths import TOKENIZER
from ncn.control.network import ControlNetwork
from ncn.corpus.tokenizer import Tokenizer, load_tokenizer
from ncn.generation.decoding import conditions_of, stream, window_start
from ncn.generation.matrices import WEIGHTS
from ncn.generation.refresh import parse_refresh
from ncn.generation.sampling import Sampling
from ncn.generation.text import continue_texts, encode_prompt, stream_text
from ncn.model import LanguageModel, load_model
from ncn.model.device import pick_device
from ncn.model.skipping import FORMS
from ncn.settings import END_OF_TEXT

VOCABULARY = "vocab.json"  # beside a model: the tokenizer came along, as from the hub


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a directory, such as data/models/ncn-1")
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument("--prompt", metavar="TEXT", default="", help="without: a new story")
    prompts.add_argument("--prompts-file", metavar="FILE", help="a prompt a line")
    add("--max-new-tokens", metavar="N", type=int, default=200, help="at most (%(default)s)")
    add("--temperature", metavar="X", type=float, default=0.8, help="0: greedy (%(default)s)")
    add("--top-k", metavar="N", type=int, default=50, help="tokens kept, 0: all (%(default)s)")
    add("--top-p", metavar="X", type=float, default=1.0, help="probability kept (%(default)s)")
    add("--seed", metavar="N", type=int, default=0, help="prompt i of a file: + i (%(default)s)")
    add("--salience", choices=("causal", "reactive"), help="another than the model's own")
    add("--weights", choices=WEIGHTS, default="fp32", help="int8: faster, one prompt, on a CPU")
    add("--refresh", metavar="WHEN", default="1", help="of c: every N tokens, or entropy:NATS")
    add("--skip-below", metavar="EPS", type=float, help="leave out what gate times gain so lowers")
    add("--skip", choices=FORMS, default=FORMS[0], help="of a token, with that (%(default)s)")
    add("--task", metavar="N", type=int, help="of a model with tasks: the text file's number")
    add("--slider", metavar="NAME=X", action="append", default=[], help="X sd from the mean")
    add("--tokenizer", metavar="DIR", help=f"the model's (its own folder, or {TOKENIZER})")


def load_with_tokenizer(directory: str, tokenizer: str | None) -> tuple[LanguageModel, Tokenizer]:
    """A trained model where it will run, and the tokenizer that it was trained with.

    Args:
        directory: of the model.
        tokenizer: its folder; None: the model's own, which one from the hub has, or the pipeline's.

    Raises:
        InputError: a file is missing or damaged, or the tokenizer has another number of tokens.
    """
    model = load_model(directory).to(pick_device())
    own = (Path(directory) / VOCABULARY).is_file()
    folder = tokenizer or (directory if own else str(TOKENIZER))
    loaded = load_tokenizer(folder)
    if model.config.vocab_size != loaded.vocab_size:
        raise InputError(
            f"{directory}: {model.config.vocab_size} tokens, but {folder} has"
            f" {loaded.vocab_size}: --tokenizer must name the one it was trained with"
        )
    return model, loaded


def _typed(prompt: str) -> str:
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"--prompt {prompt!r}: this locale does not decode what was typed: PYTHONUTF8=1 does"
        ) from None
    return prompt


def read_prompts(path: str) -> list[str]:
    """A prompt a line of a UTF-8 file; raises InputError where there is none."""
    try:
        prompts = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--prompts-file {path}: {error}") from None
    if not prompts:
        raise InputError(f"--prompts-file {path} is empty: a prompt a line was expected")
    return prompts


def _read_sliders(texts: Sequence[str]) -> dict[str, float]:
    values = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            values[name] = float(value)
        except ValueError:
            raise InputError(f"--slider {text!r}: NAME=NUMBER was expected") from None
    return values


def _slider_notes(model: LanguageModel, sliders: Mapping[str, float]) -> Iterator[str]:
    """What the values mean, from the statistics that the model keeps of its training rows."""
    network, settings = model.control, model.config.control
    if isinstance(network, ControlNetwork) and settings and (names := settings.sliders):
        statistics = (network.slider_mean.tolist(), network.slider_sd.tolist())
        for name, mean, sd in zip(names, *statistics, strict=True):
            if name in sliders:
                asked = mean + sliders[name] * sd
                yield f"note: {name} {asked:.4g} is asked for; its mean in training is {mean:.4g}"


def _write(pieces: Iterable[str]) -> None:
    """Print each piece when it is there, until the reader (head, less) has had enough."""
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit


def run(arguments: argparse.Namespace) -> None:
    """Print a text as it is generated, or those of a file, each followed by <|endoftext|>."""
    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.top_p)
    refresh = parse_refresh(arguments.refresh)
    several = arguments.prompts_file is not None
    if several and arguments.weights != "fp32":
        raise InputError(
            f"--weights {arguments.weights}: one --prompt at a time, not a file of them"
        )
    prompts = read_prompts(arguments.prompts_file) if several else [_typed(arguments.prompt)]
    model, tokenizer = load_with_tokenizer(arguments.model, arguments.tokenizer)
    model.skip_below(arguments.skip_below, arguments.skip, arguments.model)
    sliders = _read_sliders(arguments.slider)
    conditions = conditions_of(model, arguments.task, sliders)
    for note in _slider_notes(model, sliders):
        print(note, file=sys.stderr)
    context, wanted = model.config.context_length, arguments.max_new_tokens
    lengths = [len(encode_prompt(model, tokenizer, prompt)) for prompt in prompts]
    if max(lengths) + wanted - 1 > context:  # the last token is not read
        print(
            f"note: a text may outgrow the context of {context} tokens: from there on the model"
            f" reads only the last {context - window_start(context + 1, context) + 1} to {context}",
            file=sys.stderr,
        )
    if several:
        texts = continue_texts(
            model, tokenizer, prompts, wanted, sampling, arguments.seed,
            arguments.salience, refresh, conditions,
        )  # fmt: skip
        pairs = zip(prompts, texts, strict=True)
        _write(f"{prompt}{text}\n{END_OF_TEXT}\n" for prompt, text in pairs)
        return
    (prompt,) = prompts
    new = stream(
        model, torch.tensor([encode_prompt(model, tokenizer, prompt)]), wanted, sampling,
        [arguments.seed], arguments.salience, tokenizer.end_of_text, refresh, conditions,
        weights=arguments.weights,
    )  # fmt: skip
    _write(chain(stream_text(tokenizer, chain(tokenizer.encode(prompt), map(int, new))), "\n"))
