"""Language models of others, to be scored on the same text: any that transformers knows.

Nothing that comes with a model is run: weights are safetensors, and a model that needs code of its
own is refused.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ncn.common.errors import InputError, in_one_line
from ncn.common.files import read_json
from ncn.corpus.conditions import Conditions
from ncn.model.checkpoint import CONFIG
from ncn.settings import Salience

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What a model and its tokenizer may consist of, on a hub.
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
UNLIMITED = 10**9  # what transformers writes for a tokenizer that knows no limit is far above


class OtherTokenizer:
    """A tokenizer of transformers, by the names of `ncn.corpus.tokenizer.Tokenizer`."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", end_of_text: int) -> None:
        self.end_of_text = end_of_text
        self.vocab_size = len(tokenizer)
        self._tokenizer = tokenizer

    def encode(self, text: str) -> Sequence[int]:
        """The ids of `text`. No special token is recognised in it."""
        return self._tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False
        )


class OtherModel(torch.nn.Module):
    """A causal language model of transformers, as `ncn.scoring.losses.score_tokens` asks for it."""

    def __init__(self, model: "PreTrainedModel", context_length: int) -> None:
        super().__init__()
        self.context_length = context_length
        self._model = model

    def token_losses(
        self, tokens: Tensor, targets: Tensor, salience: Salience | None, conditions: Conditions
    ) -> Tensor:
        """Cross-entropy of each target in nats, [B, T], from tokens and targets [B, T].

        A row at a time: all logits of a vocabulary of 50,000 would take gigabytes.
        """
        rows = zip(tokens, targets, strict=True)
        losses = [
            F.cross_entropy(
                self._model(input_ids=row[None], use_cache=False).logits[0].float(),
                wanted,
                reduction="none",
            )
            for row, wanted in rows
        ]
        return torch.stack(losses)


def is_of_others(directory: Path) -> bool:
    """Whether a folder holds a model of transformers that is none of this project's."""
    if not (directory / CONFIG).is_file():
        return False
    config: Any = read_json(directory / CONFIG)
    return isinstance(config, dict) and "ncn" not in config and "model_type" in config


def load_other(directory: Path) -> tuple[OtherModel, OtherTokenizer]:
    """The model and the tokenizer of a folder, in fp32 and evaluation mode.

    Raises:
        InputError: transformers is not installed or cannot load it, it has code of its own, or
            says neither how long its context is nor which token begins a text.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # one line says what is wrong
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise InputError(
            f"{directory} is a model of transformers, which is not installed:"
            " pip install -c requirements.lock transformers"
        ) from None
    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, **safe)
        model = AutoModelForCausalLM.from_pretrained(
            directory, use_safetensors=True, dtype=torch.float32, **safe
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise InputError(f"{directory}: transformers: {in_one_line(str(error))}") from None
    if not tokenizer.encode("a", add_special_tokens=False):
        raise InputError(f"{directory}: its tokenizer makes nothing of a text: is it whole?")
    if len(tokenizer) > (size := model.config.vocab_size):
        raise InputError(f"{directory}: {size:,} tokens, but its tokenizer has {len(tokenizer):,}")
    begin = tokenizer.bos_token_id
    if (begin := tokenizer.eos_token_id if begin is None else begin) is None:
        raise InputError(f"{directory}: its tokenizer names no token that begins a text")
    lengths = (getattr(model.config, "max_position_embeddings", 0), tokenizer.model_max_length)
    if not (known := [each for each in lengths if each and each < UNLIMITED]):
        raise InputError(f"{directory} does not say how long its context is")
    return OtherModel(model.eval(), min(known)), OtherTokenizer(tokenizer, begin)
