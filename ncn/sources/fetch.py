"""Where the text comes from: found or fetched, checked, and only then put in place.

A directory filled here holds
    text/           text files, names sorted = order of the corpus
    tokenizer/      vocab.json and merges.txt, unless the vocabulary is trained
    manifest.json   the source, and path, bytes and sha256 of every file; of one whose first bytes
                    were asked for, of_first_bytes: the story that they cut off is left out

An unfinished download waits in $DVC_ROOT/.scratch/download: that folder is no output, so DVC does
not delete it.
"""

import codecs
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HFValidationError

from ncn.common.errors import InputError
from ncn.common.files import replacing_directory, write_json
from ncn.common.progress import byte_bar
from ncn.settings import END_OF_TEXT, Data, Hub, Tokenizer
from ncn.settings.data import expanded
from ncn.sources.hub_client import check_environment, hub_address, without_secrets
from ncn.sources.kept import MANIFEST, clear, refuse_foreign
from ncn.sources.local_texts import find_texts, no_text
from ncn.sources.stories import write_stories
from ncn.sources.transfer import Remote, downloaded

STORY_END = f"\n{END_OF_TEXT}\n"
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
CHUNK_BYTES = 1 << 20
NAME_LENGTH = 60  # characters, of at most 4 bytes each: with the number less than 255 bytes
# How files begin that people take for text, and what to do about it.
NO_TEXT = {
    b"\x1f\x8b": "is compressed: gunzip it",
    b"PK\x03\x04": "is a ZIP archive: unzip it",
    b"BZh": "is compressed: bunzip2 it",
    b"\xfd7zXZ": "is compressed: unxz it",
    b"\x28\xb5\x2f\xfd": "is compressed: unzstd it",
    b"%PDF": "is a PDF: save it as text",
    b"\xff\xfe": "is UTF-16: save it as UTF-8",
    b"\xfe\xff": "is UTF-16: save it as UTF-8",
}


class BlankError(InputError):
    """A file without a word."""


def fetch(
    data: Data,
    tokenizer: Tokenizer,
    seed: int,
    directory: Path,
    before_writing: Callable[[], None] = lambda: None,
) -> None:
    """Fill `directory` with text/, tokenizer/ and manifest.json: whole, or untouched.

    Args:
        data: which text.
        tokenizer: whose files come along (`gpt2`, `local`).
        seed: of the builtin stories.
        directory: replaced when all is there and checked.
        before_writing: is called then; where it raises, nothing is replaced.

    Raises:
        InputError: a file is missing, empty, not UTF-8 or not the pinned one, the network does not
            give it, or `directory` holds a file of the user's; says what to do.
    """
    refuse_foreign(directory)
    texts, left_out = _local_texts(data)
    vocabulary = _local_vocabulary(tokenizer)
    remote = [*_remote_texts(data), *_remote_vocabulary(tokenizer)]
    with (
        downloaded(remote, _root() / ".scratch" / "download") as parts,
        replacing_directory(directory) as new,
    ):
        files: list[dict[str, object]] = []
        if data.source == "builtin":
            stories = new / "text" / "stories.txt"
            stories.parent.mkdir()
            with open(stories, "w", encoding="utf-8", newline="\n") as out:
                out.writelines(story + STORY_END for story in write_stories(data.stories, seed))
            files.append({"path": "text/stories.txt", **check_text(stories, "builtin")})
        if texts:
            files += _copied(data, texts, left_out, new)
        for place, path in vocabulary:
            (new / place).parent.mkdir(exist_ok=True)
            files.append({"path": place, **check_text(path, str(path), copy=new / place)})
        for pinned, part in zip(remote, parts, strict=True):
            of_hub = pinned.page is not None
            if pinned.first_bytes is None:
                checked = check_text(part, pinned.address, of_hub=of_hub)
                files.append({"path": pinned.place, **checked})
                continue
            target, end = new / pinned.place, last_story_end(part, pinned.address)
            target.parent.mkdir(exist_ok=True)
            checked = check_text(part, pinned.address, target, end, of_hub)
            files.append({"path": pinned.place, **checked, "of_first_bytes": pinned.first_bytes})
        manifest = _origin(data, tokenizer, seed) | {"files": files}
        if left_out:
            manifest["left_out"] = dict(sorted(left_out.items()))
        write_json(new / MANIFEST, manifest)
        before_writing()
        refuse_foreign(directory)
        for pinned, part in zip(remote, parts, strict=True):
            # Last: what has left scratch cannot be resumed.
            if pinned.first_bytes is not None:
                part.unlink()
                continue
            (new / pinned.place).parent.mkdir(exist_ok=True)
            shutil.move(part, new / pinned.place)  # a rename; a copy to another file system
        clear(directory)


def last_story_end(path: Path, name: str) -> int:
    """How many bytes of a file that was cut off are whole stories, their last end included.

    Raises:
        InputError: not one story ends in it.
    """
    end, size = END_OF_TEXT.encode(), path.stat().st_size
    with open(path, "rb") as file:
        start = size
        while start > 0:
            start = max(0, start - CHUNK_BYTES)
            file.seek(start)
            place = file.read(CHUNK_BYTES + len(end)).rfind(end)
            if place >= 0:
                return start + place + len(end)
    raise InputError(f"{name}: no {END_OF_TEXT} in its first {size} bytes; more are needed")


def check_text(
    path: Path,
    name: str,
    copy: Path | None = None,
    end: int | None = None,
    of_hub: bool = False,
) -> dict[str, object]:
    """The `bytes` and `sha256` of a file of UTF-8 text, in one pass.

    Args:
        path: the file.
        name: what an error calls it.
        copy: where its bytes are written on the way.
        end: how many bytes count; None: all.
        of_hub: pinned, so that it is known for text also where a NUL stands in it.

    Raises:
        InputError: the file cannot be read, has a NUL, or is not UTF-8.
        BlankError: it has no word.
    """
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    size = 0
    blank: str | None = ""  # what could still be part of a delimiter; None: there are words
    with ExitStack() as stack:
        try:
            source = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise InputError(f"cannot read {name}: {error.strerror}") from None
        target = stack.enter_context(open(copy, "wb")) if copy else None
        bar = stack.enter_context(byte_bar(path.stat().st_size, f"read {path.name}", delay=1))
        while True:
            chunk = source.read(CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - size))
            held_back = len(decoder.getstate()[0])  # of a character that a chunk cuts in two
            if size == 0:
                for beginning, advice in NO_TEXT.items():
                    if chunk.startswith(beginning):
                        raise InputError(f"{name} {advice}")
            if not of_hub and (nul := chunk.find(b"\0")) >= 0:
                raise InputError(
                    f"{name} has a NUL at byte {size + nul}, which no text has: if it is UTF-16,"
                    " save it as UTF-8"
                )
            try:
                decoded = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                byte = size - held_back + error.start
                raise InputError(f"{name} is not UTF-8 at byte {byte} ({error.reason})") from None
            if not chunk:
                break
            digest.update(chunk)
            if blank is not None:
                blank = (blank + decoded).replace(END_OF_TEXT, "")
                blank = blank.removeprefix(BOM).lstrip()
                blank = blank if len(blank) < len(END_OF_TEXT) else None
            size += len(chunk)
            bar.update(len(chunk))
            if target:
                target.write(chunk)
    if blank == "":
        words = "holds white space and delimiters only" if size else "is empty"
        raise BlankError(f"{name} {words}")
    return {"bytes": size, "sha256": digest.hexdigest()}


def _origin(data: Data, tokenizer: Tokenizer, seed: int) -> dict[str, object]:
    """What the manifest says of where the files come from: only what params.yaml says."""
    match data.source:
        case "builtin":
            text: dict[str, object] = {"stories": data.stories, "seed": seed}
        case "tinystories-v2":
            text = {"repo": data.hub.repo, "revision": data.hub.revision}
        case "local":
            text = {"path": data.path}
        case "url":
            text = {"url": data.url}
    vocabulary: dict[str, object] = {"vocabulary": tokenizer.vocabulary}
    if tokenizer.vocabulary == "gpt2":
        vocabulary |= {"repo": tokenizer.hub.repo, "revision": tokenizer.hub.revision}
    elif tokenizer.vocabulary == "local":
        vocabulary |= {"path": tokenizer.path}
    return {"source": data.source, **text, "tokenizer": vocabulary}


# Files on this machine ---------------------------------------------------------------------------


def _root() -> Path:
    """The repository: under `dvc exp run --temp` the current directory is a copy of it."""
    return Path(os.environ.get("DVC_ROOT", "."))


def _in_order(names: Sequence[str], first: int = 0) -> list[str]:
    """Places under text/ that sort in the order given and differ where names are alike.

    Of a name what every file system and JSON take: its end, without what cannot be printed.
    """
    places = []
    for number, name in enumerate(names, first):
        text = os.fsencode(PurePosixPath(name).name).decode("utf-8", errors="replace")
        shown = "".join(each if each.isprintable() else "_" for each in text)
        places.append(f"text/{number:06d}-{shown[-NAME_LENGTH:]}")
    return places


def _local_texts(data: Data) -> tuple[list[Path], Counter[str]]:
    """The files that data.path names, and how many it leaves out: see `find_texts`."""
    if data.source != "local" or data.path is None:
        return [], Counter()
    return find_texts(data.path, _root())


def _copied(
    data: Data, texts: Sequence[Path], left_out: Counter[str], new: Path
) -> list[dict[str, object]]:
    """Copy the texts below `new`, but those without a word and those that are there already.

    Returns:
        What the manifest says of each.
    """
    (new / "text").mkdir()
    asked_for = len(texts) == 1 and not left_out  # a file by its name: its fault is said
    entries: dict[object, dict[str, object]] = {}
    for path in texts:
        place = _in_order([path.name], len(entries))[0]
        try:
            entry = check_text(path, str(path), copy=new / place)
        except BlankError:
            if asked_for:
                raise
            entry, reason = {}, "empty"
        else:
            reason = "the same text"
        if not entry or entry["sha256"] in entries:
            left_out[reason] += 1
            (new / place).unlink()
        else:
            entries[entry["sha256"]] = {"path": place, **entry}
    if not entries:
        raise no_text(str(data.path), left_out)
    return list(entries.values())


def _local_vocabulary(tokenizer: Tokenizer) -> list[tuple[str, Path]]:
    if tokenizer.vocabulary != "local" or tokenizer.path is None:
        return []
    folder = _root() / expanded(tokenizer.path)
    files = [(f"tokenizer/{name}", folder / name) for name in ("vocab.json", "merges.txt")]
    for _, file in files:
        if not file.is_file():
            raise InputError(
                f"tokenizer.path: {tokenizer.path} has no {file.name};"
                " a folder with vocab.json and merges.txt is needed"
            )
    return files


# Files elsewhere ---------------------------------------------------------------------------------


def _remote_texts(data: Data) -> list[Remote]:
    elsewhere = "set data.source to builtin, or fetch the file elsewhere and use data.source: local"
    if data.source == "url" and data.url and data.sha256:
        check_environment()
        name = unquote(PurePosixPath(urlsplit(data.url).path).name) or "text.txt"
        place = _in_order([name])[0]
        return [Remote(place, data.url, data.sha256, "data", elsewhere, data.bytes)]
    if data.source == "tinystories-v2":
        places = _in_order([file.name for file in data.hub.files])
        return _of_hub(data.hub, "dataset", places, "data.hub", elsewhere)
    return []


def _remote_vocabulary(tokenizer: Tokenizer) -> list[Remote]:
    if tokenizer.vocabulary != "gpt2":
        return []
    places = [f"tokenizer/{PurePosixPath(file.name).name}" for file in tokenizer.hub.files]
    elsewhere = (
        "set tokenizer.vocabulary to trained, or fetch the files elsewhere"
        " and use tokenizer.vocabulary: local"
    )
    return _of_hub(tokenizer.hub, "model", places, "tokenizer.hub", elsewhere)


def _of_hub(
    hub: Hub, repo_type: str, places: Sequence[str], setting: str, otherwise: str
) -> list[Remote]:
    """The files of a hub repository at its pinned revision."""
    endpoint = hub_address()
    page = f"{endpoint}/{'datasets/' if repo_type == 'dataset' else ''}{hub.repo}"
    files = []
    for file, place in zip(hub.files, places, strict=True):
        try:
            url = hf_hub_url(
                hub.repo,
                file.name,
                repo_type=repo_type,
                revision=hub.revision,
                endpoint=endpoint,
            )
        except HFValidationError as error:
            raise InputError(f"{setting}.repo: {error}") from None
        files.append(
            Remote(
                place,
                url,
                file.sha256,
                setting,
                otherwise,
                file.bytes,
                file.first_bytes,
                without_secrets(page),
                hub.revision,
            )
        )
    return files
