"""Byte-level BPE in GPT-2's file format: a folder with vocab.json and merges.txt.

Encoding is tiktoken's (fast), training is the tokenizers library's. A vocabulary trained here
and GPT-2's own go through the same loader.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str as GPT2_PATTERN

from ncn.common.errors import InputError
from ncn.common.files import read_json, write_json, write_text
from ncn.settings import END_OF_TEXT, MAX_VOCABULARY

GPT2_VOCABULARY = 50_257  # tokens of its own vocabulary
_LONG_RUN = re.compile(r"\S{10000}|\s{10000}")  # of characters; no word that comes again is so long


def byte_symbols() -> dict[str, int]:
    """The printable character by which GPT-2's files write each byte, in GPT-2's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


class Tokenizer:
    """Text to token ids and back. Build one with `load_tokenizer`."""

    def __init__(self, token_bytes: dict[bytes, int], end_of_text: int) -> None:
        self.end_of_text = end_of_text
        self.vocab_size = len(token_bytes) + 1
        self._encoding = tiktoken.Encoding(
            "ncn",
            pat_str=GPT2_PATTERN,
            mergeable_ranks=token_bytes,
            special_tokens={END_OF_TEXT: end_of_text},
        )

    def encode(self, text: str) -> list[int]:
        """The ids of `text`. No special token is recognised in it."""
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        return self._encoding.decode(list(ids))

    def token_bytes(self) -> list[bytes]:
        """The bytes of the corpus that each token id stands for, <|endoftext|> included."""
        return [self._encoding.decode_single_token_bytes(token) for token in range(self.vocab_size)]


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """Read vocab.json and merges.txt.

    Raises:
        InputError: a file is missing or damaged, the ids are not 0..V-1, V is over 65,536, or
            the merges are not in the order of their ids (tiktoken takes the id as the rank).
    """
    path = Path(directory) / "vocab.json"
    vocabulary = read_json(path)
    if not isinstance(vocabulary, dict) or END_OF_TEXT not in vocabulary:
        raise InputError(f"{path}: expected a mapping of tokens to ids with {END_OF_TEXT} in it")
    size = len(vocabulary)
    if size > MAX_VOCABULARY:
        raise InputError(f"{path}: {size} tokens; at most {MAX_VOCABULARY} fit in uint16")
    ids = list(vocabulary.values())
    if not all(type(each) is int for each in ids) or sorted(ids) != list(range(size)):
        raise InputError(f"{path}: ids must be 0 to {size - 1}, each once")
    symbols = byte_symbols()
    end_of_text = vocabulary.pop(END_OF_TEXT)
    try:
        token_bytes = {
            bytes(symbols[character] for character in token): number
            for token, number in vocabulary.items()
        }
    except KeyError as error:
        raise InputError(f"{path}: {error} is no symbol of GPT-2's byte-level format") from None
    if missing := [byte for byte in range(256) if bytes([byte]) not in token_bytes]:
        raise InputError(f"{path}: no token for byte {missing[0]}; all 256 bytes are needed")
    _check_merges(Path(directory) / "merges.txt", vocabulary)
    return Tokenizer(token_bytes, end_of_text)


def check_lengths(
    texts: Mapping[str, Sequence[str]], tokenizer: Tokenizer, context_length: int
) -> None:
    """See that a model can read each text; `texts` are by the setting that names them.

    Raises:
        InputError: one has more tokens than `context_length`; names the setting and the text.
    """
    for setting, each in texts.items():
        for number, text in enumerate(each):
            if (length := len(tokenizer.encode(text))) > context_length:
                raise InputError(
                    f"params.yaml: {setting}[{number}]: {text[:40]!r} has {length} tokens; at most"
                    f" model.context_length {context_length}"
                )


def _check_merges(path: Path, vocabulary: dict[str, int]) -> None:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist: a vocabulary is vocab.json and merges.txt"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    merges = [line for line in lines if line and not line.startswith("#version")]
    ids = [vocabulary.get(merge.replace(" ", "")) for merge in merges]
    if len(ids) != len(vocabulary) - 256 or None in ids or ids != sorted(ids, key=lambda i: i or 0):
        raise InputError(
            f"{path}: {len(ids)} merges do not make the {len(vocabulary) - 256} multi-byte tokens"
            " of vocab.json in the order of their ids"
        )


def train_tokenizer(texts: Iterable[str], vocab_size: int, directory: str | Path) -> None:
    """Train a byte-level BPE on `texts` and write vocab.json and merges.txt.

    Ids are GPT-2's way: 256 bytes, then the merges in order, <|endoftext|> last.

    Raises:
        InputError: the texts do not hold enough distinct pairs for `vocab_size` tokens.
    """
    import tokenizers  # here, since every stage that reads text would load it

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces = (piece for text in texts for piece in _without_long_runs(text))
    tokenizer.train_from_iterator(pieces, trainer)
    merges = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    tokens = [*byte_symbols(), *("".join(merge) for merge in merges), END_OF_TEXT]
    if len(tokens) != vocab_size:
        raise InputError(
            f"tokenizer.vocab_size: {vocab_size} tokens cannot be trained on this text,"
            f" at most {len(tokens)}"
        )
    write_json(Path(directory) / "vocab.json", {token: i for i, token in enumerate(tokens)})
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges), ""]
    write_text(Path(directory) / "merges.txt", "\n".join(lines))


def _without_long_runs(text: str) -> Iterator[str]:
    """A text in pieces: training takes the square of the length of a word, or of a gap."""
    start = 0
    for run in _LONG_RUN.finditer(text):
        yield text[start : run.end()]
        start = run.end()
    yield text[start:]
