"""Generation: one token at a time, each position computed once.

    python -m ncn.generate data/models/ncn_causal-1 --prompt "Once upon a time"

A model generates with the salience that it was trained with, since its pooling has a state of
constant size (`ncn.salience.SalienceState`). Only `global` cannot: it pools the future. Such a
model generates reactively, as published, or causally where that is asked for.

Positions are learned and absolute, so a full context cannot shift by one: when it is full, the
last three quarters of it are encoded again as a text of their own (`window_start`).
"""

import argparse
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from ncn.artifacts import TOKENIZER
from ncn.checkpoint import load_model
from ncn.conditions import UNTOLD, Conditions
from ncn.config import END_OF_TEXT, Salience
from ncn.control import ControlNetwork
from ncn.device import pick_device
from ncn.errors import InputError, run_command
from ncn.model import Cache, LanguageModel
from ncn.refresh import ALWAYS, Refresh, parse_refresh
from ncn.sampling import Sampling, sample
from ncn.tokenizer import Tokenizer, load_tokenizer


def window_start(length: int, context_length: int) -> int:
    """Where the window of a text of `length` tokens starts: the model reads from there on.

    0 while the text fits. Past that, windows start at the multiples of a step: each begins three
    quarters full and grows until the context is full again, so that encoding it anew costs the
    work of about three tokens for each one generated.
    """
    step = context_length + 1 - max(1, context_length * 3 // 4)
    return max(0, -((context_length - length) // step) * step)


def generation_salience(model: LanguageModel, salience: Salience | None) -> Salience | None:
    """The mode in which `model` generates when `salience` is asked for; None: it pools nothing.

    Raises:
        InputError: a mode that needs the future, or pools nothing.
    """
    if model.control is None or model.control.pooling is None:
        return None
    if salience is None:
        own = model.control.settings.salience
        return "reactive" if own == "global" else own
    if salience not in ("causal", "reactive"):
        raise InputError(f"salience {salience!r}: allowed to generate with are causal, reactive")
    return salience


def conditions_of(
    model: LanguageModel, task: int | None = None, sliders: Mapping[str, float] | None = None
) -> Conditions:
    """What a text is to be told, for every row alike.

    Args:
        model: knows its tasks and sliders.
        task: its number; None adds no task's vector.
        sliders: values by name, in standard deviations from the training mean; 0 where not named.

    Raises:
        InputError: a task or slider that the model was not built for, or a value not finite.
    """
    control = model.config.control
    n_tasks, names = (0, []) if control is None else (control.tasks, control.sliders)
    if task is not None and not 0 <= task < n_tasks:
        raise InputError(
            f"task {task}: allowed are 0 to {n_tasks - 1}"
            if n_tasks
            else f"task {task}: this model was built for none (ncn.tasks 0)"
        )
    for name, value in (sliders := sliders or {}).items():
        if name not in names:
            raise InputError(f"slider {name!r}: this model has {', '.join(names) or 'none'}")
        if not math.isfinite(value):
            raise InputError(f"slider {name} {value}: allowed are finite numbers")
    device = model.embedding.weight.device
    return Conditions(
        None if task is None else torch.tensor([task], device=device),
        torch.tensor([[sliders.get(name, 0.0) for name in names]], device=device)
        if sliders
        else None,
    )


def stream(
    model: LanguageModel,
    tokens: Tensor,
    max_new_tokens: int,
    sampling: Sampling,
    seeds: Sequence[int],
    salience: Salience | None = None,
    stop: int | None = None,
    refresh: Refresh = ALWAYS,
    conditions: Conditions = UNTOLD,
    cached: bool = True,
) -> Iterator[Tensor]:
    """The next token of each row, [B], again and again, until there are enough or all rows stopped.

    Args:
        model: put into evaluation mode.
        tokens: prompts [B, T], T from 1 to context_length.
        max_new_tokens: at most so many are yielded.
        sampling: how a token is drawn.
        seeds: one a row. A row is what it would be alone with its seed.
        salience: see `generation_salience`.
        stop: a row that drew this token goes on with nothing but it.
        refresh: when the tonic signal is recomputed.
        conditions: what the control network is told, see `conditions_of`.
        cached: False computes the whole window at each token: slow, and the same.

    Raises:
        InputError: an empty prompt, one longer than the context, or settings that do not combine.
    """
    batch, length = tokens.shape
    context = model.config.context_length
    if not 1 <= length <= context:
        raise InputError(f"a prompt of {length} tokens: allowed are 1 to context_length {context}")
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens {max_new_tokens}: allowed are 0 and more")
    if len(seeds) != batch:
        raise InputError(f"{len(seeds)} seeds for {batch} prompts: one each is needed")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**63]:
        raise InputError(f"seed {wrong[0]}: allowed are 0 to 2**63 - 1")
    if not cached and refresh != ALWAYS:
        raise InputError("a refresh policy needs the cache: it is what holds the tonic signal")
    mode = generation_salience(model.eval(), salience)
    return _draw(
        model, tokens, max_new_tokens, sampling, seeds, mode, stop, refresh, conditions, cached
    )


@torch.inference_mode()
def _draw(
    model: LanguageModel,
    tokens: Tensor,
    max_new_tokens: int,
    sampling: Sampling,
    seeds: Sequence[int],
    salience: Salience | None,
    stop: int | None,
    refresh: Refresh,
    conditions: Conditions,
    cached: bool,
) -> Iterator[Tensor]:
    """The tokens of `stream`, which has checked the arguments."""
    (batch, length), context = tokens.shape, model.config.context_length
    device = model.embedding.weight.device
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    cache = Cache(model, batch) if cached else None
    text = torch.empty(batch, length + max_new_tokens, dtype=torch.int64, device=device)
    text[:, :length] = tokens
    stopped = torch.zeros(batch, dtype=torch.bool, device=device)
    window, encoded = -1, 0  # where the window in the cache starts, and where its encoding ended
    for end in range(length, length + max_new_tokens):
        start = window_start(end, context)
        if cache is None:
            logits = model(text[:, start:end], salience, conditions=conditions)[:, -1]
        else:
            if start != window:
                cache.clear()
                window, encoded = start, end
            unread = text[:, start + cache.length : end]
            logits = model.next_logits(unread, salience, cache, conditions)
            cache.tonic.refresh = refresh.due(end + 1 - encoded, logits)
        uniform = torch.stack([torch.rand((), dtype=torch.float64, generator=g) for g in draws])
        new = sample(logits, uniform.to(device), sampling)
        if stop is not None:
            new = new.masked_fill(stopped, stop)
            stopped |= new == stop
        text[:, end] = new
        yield new
        if stop is not None and stopped.all():
            return


def generate(
    model: LanguageModel,
    tokens: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | Sequence[int] = 0,
    salience: Salience | None = None,
    *,
    top_p: float = 1.0,
    stop: int | None = None,
    refresh: Refresh = ALWAYS,
    conditions: Conditions = UNTOLD,
    cached: bool = True,
) -> Tensor:
    """Prompts [B, T] with what the model makes of them: [B, T + new], new <= max_new_tokens.

    Args:
        model: put into evaluation mode.
        tokens: int64, T from 1 to context_length. The text may grow past it: see `window_start`.
        max_new_tokens: fewer are returned where every row stopped before.
        temperature: 0 is greedy.
        top_k: None or 0 keeps all tokens.
        seed: row b draws from seed + b, or from the b-th of several: it is what it would be
            alone with that seed.
        salience: `causal` or `reactive`; the model's own where not given, reactive for `global`.
        top_p: share of the probability kept.
        stop: a token that ends a row; it is kept, and fills the row up to the longest.
        refresh: when the tonic signal is recomputed, see `Refresh`.
        conditions: what the control network is told, see `conditions_of`.
        cached: False computes the whole window at each token: slow, and the same.

    Raises:
        InputError: as `stream` and `Sampling`.
    """
    sampling = Sampling(temperature, top_k, top_p)
    seeds = range(seed, seed + len(tokens)) if isinstance(seed, int) else seed
    new = stream(
        model, tokens, max_new_tokens, sampling, seeds, salience, stop, refresh, conditions, cached
    )
    return torch.cat([tokens, *(each[:, None].to(tokens.device) for each in new)], dim=1)


def encode_prompt(model: LanguageModel, tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt; an empty one begins a story, as end_of_text stands before each.

    Raises:
        InputError: the prompt is longer than the model's context.
    """
    ids = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    if len(ids) > model.config.context_length:
        raise InputError(
            f"prompt {prompt[:40]!r} has {len(ids)} tokens;"
            f" at most context_length {model.config.context_length}"
        )
    return ids


def stream_text(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of `tokens` up to end_of_text, in pieces that never split a character.

    Decoding writes U+FFFD for the bytes of an unfinished character, so a piece that ends in it
    is held back until the next token has come, or none is left.
    """
    held: list[int] = []
    for token in tokens:
        if token == tokenizer.end_of_text:
            break
        held.append(token)
        piece = tokenizer.decode(held)
        if not piece.endswith("\N{REPLACEMENT CHARACTER}"):
            yield piece
            held.clear()
    if held:
        yield tokenizer.decode(held)


def continue_texts(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
    salience: Salience | None = None,
    refresh: Refresh = ALWAYS,
    conditions: Conditions = UNTOLD,
) -> list[str]:
    """What follows each prompt, up to end_of_text. Prompts of equal length share a batch.

    Args:
        model: put into evaluation mode.
        tokenizer: the model's.
        prompts: an empty one begins a story.
        max_new_tokens: of each prompt.
        sampling: how a token is drawn.
        seed: prompt i draws from seed + i, whatever the other prompts are.
        salience: see `generation_salience`.
        refresh: when the tonic signal is recomputed.
        conditions: what the control network is told of each text, see `conditions_of`.

    Raises:
        InputError: a prompt is too long, or as `stream`.
    """
    encoded = [encode_prompt(model, tokenizer, prompt) for prompt in prompts]
    equally_long: dict[int, list[int]] = defaultdict(list)
    for number, ids in enumerate(encoded):
        equally_long[len(ids)].append(number)
    texts = [""] * len(prompts)
    for length, numbers in equally_long.items():
        whole = generate(
            model,
            torch.tensor([encoded[number] for number in numbers]),
            max_new_tokens,
            sampling.temperature,
            sampling.top_k,
            [seed + number for number in numbers],
            salience,
            top_p=sampling.top_p,
            stop=tokenizer.end_of_text,
            refresh=refresh,
            conditions=conditions,
        )
        for number, row in zip(numbers, whole[:, length:].tolist(), strict=True):
            texts[number] = "".join(stream_text(tokenizer, row))
    return texts


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _arguments() -> argparse.Namespace:
    parser = _Parser(
        prog="python -m ncn.generate",
        description="Continue a prompt, or each of a file, up to the end of the story.",
    )
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
    add("--refresh", metavar="WHEN", default="1", help="of c: every N tokens, or entropy:NATS")
    add("--task", metavar="N", type=int, help="of a model with ncn.tasks: the text file's number")
    add("--slider", metavar="NAME=X", action="append", default=[], help="X sd from the mean")
    add("--tokenizer", metavar="DIR", default=TOKENIZER, help="the model's (%(default)s)")
    return parser.parse_args()


def _read_prompts(path: str) -> list[str]:
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
    if isinstance(model.control, ControlNetwork) and (names := model.control.settings.sliders):
        statistics = (model.control.slider_mean.tolist(), model.control.slider_sd.tolist())
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


def main() -> None:
    """Print a text as it is generated, or those of a file, each followed by <|endoftext|>."""
    arguments = _arguments()
    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.top_p)
    refresh = parse_refresh(arguments.refresh)
    several = arguments.prompts_file is not None
    prompts = _read_prompts(arguments.prompts_file) if several else [arguments.prompt]
    model = load_model(arguments.model).to(pick_device())
    tokenizer = load_tokenizer(arguments.tokenizer)
    if model.config.vocab_size != tokenizer.vocab_size:
        raise InputError(
            f"{arguments.model}: {model.config.vocab_size} tokens, but {arguments.tokenizer} has"
            f" {tokenizer.vocab_size}: --tokenizer must name the one it was trained with"
        )
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
    )  # fmt: skip
    _write(chain(stream_text(tokenizer, chain(tokenizer.encode(prompt), map(int, new))), "\n"))


if __name__ == "__main__":
    run_command(main)
