"""Where the text comes from: fetched, checked, and only then put in place.

A directory filled here holds
    text/           text files, names sorted = order of the corpus
    tokenizer/      vocab.json and merges.txt, unless the vocabulary is trained
    manifest.json   the source, and path, bytes and sha256 of every file

Remote files are pinned by their sha256, which also names their unfinished download in
$DVC_ROOT/.scratch/download. That folder is no output, so DVC does not delete it, and the next
run, from whichever address, asks only for what is missing. hf_hub_download cannot do that: since
huggingface_hub 2 it starts over after a broken run. So the hub's addresses, token and offline
switch are its library's, and the bytes come over the same plain HTTP as those of any mirror.
"""

import codecs
import fcntl
import glob
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import requests
from huggingface_hub import constants, get_token, hf_hub_url, is_offline_mode
from huggingface_hub.errors import HFValidationError
from tqdm import tqdm

from ncn.config import Data, Hub, Tokenizer
from ncn.errors import InputError
from ncn.files import replacing_directory, write_json
from ncn.stories import write_stories

STORY_END = "\n<|endoftext|>\n"
CHUNK_BYTES = 1 << 20
RECEIVE_BYTES = 1 << 16  # smaller: a connection that breaks takes an unfinished piece with it
TIMEOUT_S = (10, 60)  # to connect; without a byte
ATTEMPTS = 5  # broken connections in a row, the later ones without a piece received
RETRY_WAIT_S = 1.0


@dataclass(frozen=True)
class Remote:
    """A file at an address, pinned by its digest."""

    place: str  # in data/raw
    url: str
    sha256: str
    setting: str  # the section of params.yaml that names it
    otherwise: str  # what to do where there is no network
    bytes: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    page: str | None = None  # of its repository, for files of the hub


class Content(NamedTuple):
    """What a file holds; `problem` says why it is no text, if it is none."""

    bytes: int
    sha256: str
    problem: str | None


def fetch(data: Data, tokenizer: Tokenizer, seed: int, directory: Path) -> None:
    """Fill `directory` with text/, tokenizer/ and manifest.json: whole, or untouched.

    Args:
        data: which text.
        tokenizer: whose files come along (`gpt2`, `local`).
        seed: of the builtin stories.
        directory: replaced when all is there and checked.

    Raises:
        InputError: a file is missing, empty, not UTF-8 or not the pinned one, or the network
            does not give it; says what to do.
    """
    local = [*_local_texts(data), *_local_vocabulary(tokenizer)]
    remote = [*_remote_texts(data), *_remote_vocabulary(tokenizer)]
    with _downloaded(remote) as parts, replacing_directory(directory) as new:
        files = []
        if data.source == "builtin":
            stories = new / "text" / "stories.txt"
            stories.parent.mkdir()
            with open(stories, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(story + STORY_END for story in write_stories(data.stories, seed))
            files.append(_entry("text/stories.txt", read_content(stories)))
        for place, source in local:
            (new / place).parent.mkdir(exist_ok=True)
            content = read_content(source, copy=new / place)
            if content.problem:
                raise InputError(f"{source} {content.problem}")
            files.append(_entry(place, content))
        files += [_entry(pinned.place, content) for pinned, _, content in parts]
        write_json(new / "manifest.json", _origin(data, tokenizer, seed) | {"files": files})
        for pinned, part, _ in parts:  # last: what has left scratch cannot be resumed
            (new / pinned.place).parent.mkdir(exist_ok=True)
            shutil.move(part, new / pinned.place)  # a rename; a copy to another file system


def read_content(path: Path, copy: Path | None = None) -> Content:
    """Size, digest and first fault of a file that should be UTF-8 text, in one pass.

    With `copy` the bytes are written there on the way.
    """
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    size, blank, problem = 0, True, None
    with ExitStack() as stack:
        source = stack.enter_context(_readable(path))
        target = stack.enter_context(open(copy, "wb")) if copy else None
        bar = stack.enter_context(_progress(path.stat().st_size, f"read {path.name}", delay=1))
        while True:
            chunk = source.read(CHUNK_BYTES)
            if problem is None:
                held_back = len(decoder.getstate()[0])  # of a character that a chunk cuts in two
                try:
                    decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    byte = size - held_back + error.start
                    problem = f"is not UTF-8 at byte {byte} ({error.reason})"
            if not chunk:
                break
            digest.update(chunk)
            blank = blank and chunk.isspace()
            size += len(chunk)
            bar.update(len(chunk))
            if target:
                target.write(chunk)
    if blank:
        problem = "is empty" if size == 0 else "holds white space only"
    return Content(size, digest.hexdigest(), problem)


def _readable(path: Path) -> BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _entry(place: str, content: Content) -> dict[str, object]:
    return {"path": place, "bytes": content.bytes, "sha256": content.sha256}


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


def _in_order(names: Sequence[str]) -> list[str]:
    """Places under text/ that sort in the order given and differ where names are alike."""
    return [f"text/{place:06d}-{PurePosixPath(name).name}" for place, name in enumerate(names)]


def _local_texts(data: Data) -> list[tuple[str, Path]]:
    """The place and the path of every text that data.path names: a file, a folder or a glob."""
    if data.source != "local" or data.path is None:
        return []
    path = _root() / Path(data.path).expanduser()
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = list(path.rglob("*.txt"))
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        if not found and not glob.has_magic(data.path):
            raise InputError(f"data.path: {data.path} does not exist (looked in {path.absolute()})")
    files = sorted((file for file in found if file.is_file()), key=lambda file: file.parts)
    if not files:
        raise InputError(f"data.path: {data.path} has no text: a .txt file is needed")
    return list(zip(_in_order([file.name for file in files]), files, strict=True))


def _local_vocabulary(tokenizer: Tokenizer) -> list[tuple[str, Path]]:
    if tokenizer.vocabulary != "local" or tokenizer.path is None:
        return []
    folder = _root() / Path(tokenizer.path).expanduser()
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
        name = unquote(PurePosixPath(urlsplit(data.url).path).name) or "text.txt"
        return [Remote(_in_order([name])[0], data.url, data.sha256, "data", elsewhere)]
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
    # huggingface_hub reads HF_ENDPOINT once, when it is imported; this reads it when it is used.
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}  # requests keeps it to the host
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
        files.append(Remote(place, url, file.sha256, setting, otherwise, file.bytes, headers, page))
    return files


@contextmanager
def _downloaded(files: Sequence[Remote]) -> Iterator[list[tuple[Remote, Path, Content]]]:
    """Every file, whole and checked, in scratch; until the block ends nobody else writes there."""
    if not files:
        yield []
        return
    scratch = _root() / ".scratch" / "download"
    scratch.mkdir(parents=True, exist_ok=True)
    with open(scratch / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another run is downloading to {scratch}: wait for its end, or stop it"
            ) from None
        parts = [scratch / f"{file.sha256}.part" for file in files]
        contents = [_download(file, part) for file, part in zip(files, parts, strict=True)]
        yield list(zip(files, parts, contents, strict=True))


def _download(file: Remote, part: Path) -> Content:
    """Complete `part` and check it; what is not the pinned file is removed."""
    # It is whole already where an earlier run stopped after this file and before the others.
    perhaps_whole = part.exists() and file.bytes in (None, part.stat().st_size)
    content = read_content(part) if perhaps_whole else None
    if content is None or content.sha256 != file.sha256:
        _receive(file, part)
        content = read_content(part)
    if content.sha256 != file.sha256:
        part.unlink()
        raise InputError(
            f"{file.url}: sha256 {content.sha256} of {content.bytes} bytes is not the"
            f" {file.sha256} that {file.setting} pins; removed, the next run starts afresh"
        )
    if content.problem:
        raise InputError(f"{file.url} {content.problem}")
    return content


def _receive(file: Remote, part: Path) -> None:
    """Append to `part` what it lacks, over as many connections as that takes."""
    if file.page and is_offline_mode():
        raise InputError(f"HF_HUB_OFFLINE is set, so {file.url} is not fetched: {file.otherwise}")
    reached, broken = False, 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        # Offsets count the file's own bytes, so the server must not compress them.
        headers = file.headers | {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            with requests.get(
                file.url, headers=headers, stream=True, timeout=TIMEOUT_S
            ) as response:
                reached = True
                if have and _is_no_continuation(response, have):
                    part.unlink()
                    continue
                if response.status_code not in (200, 206):
                    raise InputError(_refusal(file, response))
                _append(file, response, part, have)
                return
        except requests.RequestException as error:
            why = type(error).__name__
            if not reached:
                raise InputError(
                    f"cannot reach {file.url} ({why}): without a network {file.otherwise}"
                ) from None
            arrived = part.stat().st_size if part.exists() else 0
            broken = 1 if arrived > have else broken + 1
            if broken >= ATTEMPTS:
                raise InputError(
                    f"{file.url} broke off after {arrived / 1e6:.1f} MB ({why}):"
                    " the same command goes on from there"
                ) from None
            time.sleep(RETRY_WAIT_S)


def _is_no_continuation(response: requests.Response, have: int) -> bool:
    """Whether the server has nothing after byte `have`, or answers with another part."""
    if response.status_code == 206:
        return not response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    return response.status_code == 416


def _append(file: Remote, response: requests.Response, part: Path, have: int) -> None:
    """Write the body after the `have` bytes, or over them where the server ignored Range."""
    start = have if response.status_code == 206 else 0
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else file.bytes
    if file.bytes and total != file.bytes:  # before a byte of `part` is lost
        raise InputError(
            f"{file.url} has {total} bytes, but {file.setting} pins {file.bytes}:"
            " not the file that was meant"
        )
    name = PurePosixPath(file.place).name
    with open(part, "ab" if start else "wb") as out, _progress(total, name, initial=start) as bar:
        for chunk in response.iter_content(RECEIVE_BYTES):
            out.write(chunk)
            bar.update(len(chunk))


def _refusal(file: Remote, response: requests.Response) -> str:
    """What an answer without the file means, and what to do."""
    status, reason = response.status_code, response.reason
    answer = f"{file.url} answered {status} {reason}"
    if status == 429 or status >= 500:
        return f"{answer}: try again later; what has arrived is kept"
    if not file.page:
        return f"{answer}: check data.url"
    match response.headers.get("X-Error-Code"):
        case "RepoNotFound":
            return (
                f"{file.page} does not exist, or is private (log in with `hf auth login`):"
                f" check {file.setting}.repo"
            )
        case "RevisionNotFound":
            return f"{answer}: {file.page} has no such revision: check {file.setting}.revision"
        case "EntryNotFound":
            return f"{answer}: no such file at this revision: check {file.setting}.files"
    if status in (401, 403):
        return f"{answer}: accept the terms at {file.page} and log in with `hf auth login`"
    return f"{answer}: check {file.setting}"


def _progress(total: int | None, name: str, initial: int = 0, delay: float = 0) -> "tqdm[Any]":
    """A bar in bytes with the time left; none where stderr is not a terminal."""
    return tqdm(
        total=total,
        initial=initial,
        desc=name,
        unit="B",
        unit_scale=True,
        delay=delay,
        disable=None,
    )
