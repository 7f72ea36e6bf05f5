"""Text -> rows of token ids.

In:  data/raw (the download stage).
Out: data/tokens/train.bin, val.bin, meta.json, tokenizer/.
"""

import shutil

from ncn.artifacts import RAW, TOKENS
from ncn.config import load_params
from ncn.corpus import choose_validation, read_stories, text_files, write_corpus
from ncn.errors import run_command
from ncn.files import replacing_directory
from ncn.timing import timed
from ncn.tokenizer import load_tokenizer, train_tokenizer


def main() -> None:
    """Split the stories, provide the vocabulary, encode."""
    params = load_params()
    files = text_files(RAW)
    with timed("tokenize"), replacing_directory(TOKENS) as directory:
        n_stories = sum(1 for _ in read_stories(files))
        held_out = choose_validation(n_stories, params.split, params.seed)
        vocabulary = directory / "tokenizer"
        if params.tokenizer.vocabulary == "trained":
            training = (
                story for story, held in zip(read_stories(files), held_out, strict=True) if not held
            )
            train_tokenizer(training, params.tokenizer.vocab_size, vocabulary)
        else:
            shutil.copytree(RAW / "tokenizer", vocabulary)
        meta = write_corpus(
            files,
            held_out,
            load_tokenizer(vocabulary),
            params.split,
            params.model.context_length,
            params.seed,
            directory,
        )
    print(
        f"{meta['tokens']:,} tokens of {meta['stories']:,} stories:"
        f" {meta['train']['rows']:,} training and {meta['val']['rows']:,} validation sequences"
        f" of {meta['context_length']}"
    )


if __name__ == "__main__":
    run_command(main)
