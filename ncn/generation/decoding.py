"""Generation: one token at a time, each position computed once.

A model generates with the salience that it was trained with, since its pooling has a state of
constant size (`ncn.control.salience.SalienceState`). Only `global` cannot: it pools the future.
Such a model generates reactively, as published, or causally where that is asked for.

Positions are learned and absolute, so a full context cannot shift by one: when it is full, the
last three quarters of it are encoded again as a text of their own (`window_start`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ncn.common.errors import InputError
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.generation.caches import make_cache
from ncn.generation.many_texts import ManyTexts, suits_many
from ncn.generation.matrices import Weights, rounded
from ncn.generation.one_token import OneToken, obstacles, suits
from ncn.generation.recorded import Recorded, suits_recording
from ncn.generation.refresh import ALWAYS, Refresh
from ncn.generation.sampling import Sampling, sample
from ncn.model import LanguageModel
from ncn.model.blocks import Cache
from ncn.settings import Salience

TokenReader = OneToken | ManyTexts | Recorded
# Copying the matrices takes as long as 20 tokens gain by it (published size).
WORTH_TOKENS = 32


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
    settings = model.config.control
    if settings is None or model.control is None or model.control.pooling is None:
        return None
    if salience is None:
        own = settings.salience
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
    control, n_tasks = model.config.control, model.config.tasks
    names = [] if control is None else control.sliders
    if task is not None and not 0 <= task < n_tasks:
        raise InputError(
            f"task {task}: allowed are 0 to {n_tasks - 1}"
            if n_tasks
            else f"task {task}: this model was built for none (ncn.tasks and model.task_tokens 0)"
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
    conditions: Conditions = NO_CONDITIONS,
    cached: bool = True,
    weights: Weights = "fp32",
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
        weights: int8 reads a quarter of the bytes of one text's model, on a CPU.

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
    if weights != "fp32":
        refuse_rounding(model, batch, cached, weights)
        model = rounded(model)  # which reads the prompt
    cache = make_cache(model, batch) if cached else None
    worth = weights != "fp32" or max_new_tokens >= WORTH_TOKENS
    lay_out = token_reader(model, cache, batch, weights) if cache and worth else None
    return _draw(
        model, tokens, max_new_tokens, sampling, seeds, mode, stop, refresh, conditions, cache,
        lay_out,
    )  # fmt: skip


def refuse_rounding(model: LanguageModel, batch: int, cached: bool, weights: Weights) -> None:
    """Raise InputError, one line that says why, where `model` cannot generate with such weights."""
    why = obstacles(model)
    if batch != 1:
        why.insert(0, f"{batch} texts at once, and only one can be")
    if not cached:
        why.insert(0, "without the cache")
    if why:
        raise InputError(f"weights {weights} cannot be had here: {'; '.join(why)}")


def token_reader(
    model: LanguageModel, cache: Cache, batch: int, weights: Weights = "fp32"
) -> Callable[[], TokenReader] | None:
    """Makes what reads a token at a time faster than the model; None where nothing does."""
    if suits_recording(model):
        return partial(Recorded, model, cache, batch)
    if suits(model, batch):
        return partial(OneToken, model, cache, weights)
    if suits_many(model, batch):
        return partial(ManyTexts, model, cache, batch)
    return None


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
    cache: Cache | None,
    lay_out: Callable[[], TokenReader] | None,
) -> Iterator[Tensor]:
    """The tokens of `stream`, which has checked the arguments.

    lay_out: makes what reads one token at a time, where the model should not.
    """
    (batch, length), context = tokens.shape, model.config.context_length
    device = model.embedding.weight.device
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    reader: TokenReader | None = None
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
            if lay_out and unread.shape[1] == 1 and cache.length:
                reader = reader or lay_out()  # after the first token is there
                logits = reader.next_logits(unread, salience, conditions)
            else:
                logits = model.next_logits(unread, salience, cache, conditions)
            cache.tonic.refresh = refresh.due(end + 1 - encoded, logits)
        uniform = None
        if sampling.temperature > 0:
            each = [torch.rand((), dtype=torch.float64, generator=g) for g in draws]
            uniform = torch.stack(each).to(device)
        new = sample(logits, uniform, sampling)
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
    conditions: Conditions = NO_CONDITIONS,
    cached: bool = True,
    weights: Weights = "fp32",
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
        weights: as `stream` takes them.

    Raises:
        InputError: as `stream` and `Sampling`.
    """
    sampling = Sampling(temperature, top_k, top_p)
    seeds = range(seed, seed + len(tokens)) if isinstance(seed, int) else seed
    new = stream(
        model, tokens, max_new_tokens, sampling, seeds, salience, stop, refresh, conditions, cached,
        weights,
    )  # fmt: skip
    return torch.cat([tokens, *(each[:, None].to(tokens.device) for each in new)], dim=1)
