"""Text -> rows of token ids.

In:  data/raw (the download stage).
Out: data/tokens/train.bin, val.bin, tune.bin (with `split.tuning`), meta.json, tokenizer/.
"""

import shutil

from ncn.common.errors import run_command
from ncn.common.files import replacing_directory
from ncn.common.paths import RAW, TOKENS
from ncn.common.timing import timed
from ncn.corpus.encode import write_corpus
from ncn.corpus.split import PART_NAMES, PARTS, choose_parts
from ncn.corpus.text import read_stories, text_files
from ncn.corpus.tokenizer import load_tokenizer, train_tokenizer
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs


def main() -> None:
    """Split the stories, provide the vocabulary, encode."""
    inputs = StageInputs("tokenize")
    params = load_params()
    files = text_files(RAW)
    with timed("tokenize"), replacing_directory(TOKENS) as directory:
        n_stories = sum(1 for _ in read_stories(files))
        parts = choose_parts(n_stories, params.split, params.seed)
        vocabulary = directory / "tokenizer"
        if params.tokenizer.vocabulary == "trained":
            training = (
                story
                for story, part in zip(read_stories(files), parts, strict=True)
                if part == PARTS.index("train")
            )
            train_tokenizer(training, params.tokenizer.vocab_size, vocabulary)
        else:
            shutil.copytree(RAW / "tokenizer", vocabulary)
        meta = write_corpus(
            files,
            parts,
            load_tokenizer(vocabulary),
            params.split,
            params.model.context_length,
            params.seed,
            directory,
        )
        inputs.check()
    rows = ", ".join(f"{meta[part]['rows']:,} {PART_NAMES[part]}" for part in PARTS if part in meta)
    print(
        f"{meta['tokens']:,} tokens of {meta['stories']:,} stories:"
        f" {rows} sequences of {meta['context_length']}"
    )


if __name__ == "__main__":
    run_command(main)
