"""Text -> rows of token ids.

In:  data/raw (the download stage).
Out: data/tokens/train.bin, val.bin, tune.bin (with `split.tuning`), meta.json, tokenizer/.
"""

import hashlib
import json
import math
import shutil
from pathlib import Path

from ncn.common.errors import run_command
from ncn.common.files import as_written, read_json, replacing_directory
from ncn.common.paths import RAW, TOKENS
from ncn.common.scratch import locked, scratch
from ncn.common.stopping import said_of_interrupts
from ncn.common.timing import timed
from ncn.corpus.choice import choose_stories, in_words
from ncn.corpus.encode import write_corpus
from ncn.corpus.ranges import Corpus, count_stories
from ncn.corpus.split import PART_NAMES, PARTS, Parts
from ncn.corpus.tokenizer import train_tokenizer
from ncn.corpus.workers import cores
from ncn.published.text import rows_beside_published
from ncn.settings import Params, load_params
from ncn.settings.stage_inputs import StageInputs, stage_source
from ncn.text.stories import text_files


def main() -> None:
    """Split the stories, provide the vocabulary, encode."""
    inputs = StageInputs("tokenize")
    params = load_params()
    files = text_files(RAW)
    unfinished = scratch() / f"tokenize-{work_key(params)}"
    kept = "interrupted: what is done is kept, the same command goes on from there"
    # Another experiment with the same text may be at it.
    with (
        locked(unfinished, "tokenizes", math.inf),
        timed("tokenize"),
        said_of_interrupts(kept),
    ):
        with replacing_directory(TOKENS) as directory:
            corpus = count_stories(files, params.text, unfinished, cores())
            drawn = params.split.unit == "story" or params.tokenizer.vocabulary == "trained"
            parts, found = choose_stories(corpus, params.split, params.seed, unfinished, drawn)
            vocabulary = provide_vocabulary(corpus, parts, params, unfinished)
            shutil.copytree(vocabulary, directory / "tokenizer")
            meta = write_corpus(
                corpus,
                parts,
                found,
                vocabulary,
                params.split,
                params.model.context_length,
                params.seed,
                directory,
                unfinished,
                cores(),
            )
            counts = {part: of.rows for part, of in meta.parts.items()}
            n_texts = corpus.n_stories + meta.text.empty
            beside = rows_beside_published(fetched_texts(), params, counts, n_texts)
            inputs.check()
        shutil.rmtree(unfinished)
    rows = ", ".join(f"{n:,} {PART_NAMES[part]}" for part, n in counts.items())
    print(
        f"{meta.tokens:,} tokens of {meta.stories:,} stories:"
        f" {rows} sequences of {meta.context_length}"
    )
    for line in in_words(meta.text):
        print(line)
    if beside:
        print(beside)


def work_key(params: Params) -> str:
    """Sixteen hex digits that change with anything that the ids depend on."""
    named = {
        "text": read_json(RAW / "manifest.json"),
        "tokenizer": params.tokenizer.model_dump(mode="json"),
        "mending": params.text.model_dump(),
        "split": params.split.model_dump(mode="json"),
        "seed": params.seed,
        "source": stage_source("tokenize"),
    }
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def fetched_texts() -> list[str]:
    """The sha256 of each file of text, as the stage download lists it."""
    path = RAW / "manifest.json"
    with as_written(path):
        files = read_json(path)["files"]
        return [str(file["sha256"]) for file in files if file["path"].startswith("text/")]


def provide_vocabulary(
    corpus: Corpus, parts: Parts | None, params: Params, unfinished: Path
) -> Path:
    """The folder of the vocabulary: what was fetched, or one trained on the training part."""
    if params.tokenizer.vocabulary != "trained":
        return RAW / "tokenizer"
    place = unfinished / "tokenizer"
    if not place.exists():
        assert parts is not None
        of_story = zip(corpus.read(), parts, strict=True)
        training = (story for story, part in of_story if part == PARTS.index("train"))
        with replacing_directory(place) as new:
            train_tokenizer(training, params.tokenizer.vocab_size, new)
    return place


if __name__ == "__main__":
    run_command(main)
