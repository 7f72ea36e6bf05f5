"""The bytes of a remote file that is pinned by its sha256, received into a part file and checked.

The digest names the part file. What has arrived stays there when a connection, a run or the
machine breaks, and the next run, from whichever address, asks only for what is missing.

Several files come at once, as through huggingface_hub's own snapshot_download. A file comes over
one connection: what has arrived of it is then its beginning, so that its length alone says where to
go on, after whatever end.

Files of a hub come through huggingface_hub: its HEAD request, token, errors, retries and resuming
GET. Its hf_hub_download would start over after a broken run: since huggingface_hub 2 each run
writes to a file of its own. Any other address is a mirror, read with requests.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event
from typing import IO, Any, BinaryIO, cast

import requests
from huggingface_hub import constants, get_hf_file_metadata
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from ncn.common.errors import InputError
from ncn.common.progress import SPOKEN_OF, byte_bar, say
from ncn.sources.hub_client import (
    Asked,
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    problem,
    try_later,
    without_secrets,
)

PIECE_BYTES = 1 << 16  # a connection that breaks takes a piece that is not whole with it
HASHED_BYTES = 1 << 20  # between two steps of a bar
FILES_AT_ONCE = 8  # as many as snapshot_download
TIMEOUT_S = (10, 60)  # of a mirror: to connect; without a byte
ATTEMPTS = 5  # in a row that bring nothing new
RETRY_WAIT_S = 1.0
KEPT = "; what has arrived is kept"
MOST_BYTES = 10**10  # of a file whose size nothing names
# Offsets count the file's own bytes, so the server must not compress them.
UNCOMPRESSED = {"Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Remote:
    """A file at an address, pinned by its digest."""

    place: str  # where it belongs in data/raw
    url: str
    sha256: str
    setting: str  # the section of params.yaml that names it
    otherwise: str  # what to do where there is no network
    bytes: int | None = None  # of the whole file; always known of a hub's
    first_bytes: int | None = None  # of these, to ask for no more; `sha256` is then theirs
    page: str | None = None  # of its repository, for files of a hub
    revision: str | None = None  # likewise

    @property
    def wanted(self) -> int | None:
        """How many bytes are asked for, where that is known."""
        return self.first_bytes or self.bytes

    @property
    def address(self) -> str:
        """The url for people."""
        return without_secrets(self.url)


class _Bounded:
    """A part file that takes no more than the file can have: a body may never end, or unpack.

    Nor the same again and again, from a server that begins anew whenever it breaks off. Nor any
    more once `stop` is set.
    """

    def __init__(self, out: IO[bytes], file: Remote, stop: Event) -> None:
        self._out, self._file, self._stop = out, file, stop
        self._most = file.bytes or MOST_BYTES
        self._came = 0

    def write(self, content: bytes) -> int:
        if self._stop.is_set():
            raise _StoppedError
        if self._out.tell() + len(content) > self._most:
            known = f"the {self._most} bytes that {self._file.setting} pins"
            unknown = f"{self._most:,} bytes: set {self._file.setting}.bytes if it is so long"
            Path(self._out.name).unlink()
            raise InputError(
                f"{self._file.address} sends more than {known if self._file.bytes else unknown};"
                " removed, the next run starts afresh"
            )
        self._came += len(content)
        if self._came > ATTEMPTS * self._most:
            raise InputError(
                f"{self._file.address} sends the same bytes again and again, and never all of them:"
                f" try again later{KEPT}"
            )
        return self._out.write(content)

    def __getattr__(self, name: str) -> Any:  # seek, tell, truncate: as the file
        return getattr(self._out, name)


class _StoppedError(Exception):
    """Another file could not be had, or somebody pressed ^C."""


class _InterruptedError(Exception):
    """The connection failed or broke; the message says how."""


@contextmanager
def downloaded(files: Sequence[Remote], scratch: Path) -> Iterator[list[Path]]:
    """Every file, whole and checked, as a part file in `scratch`.

    Until the block ends nobody else writes there. What it leaves there the next run finds whole.

    Raises:
        InputError: a file is not the pinned one, or its server does not give it; what to do.
    """
    if not files:
        yield []
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with open(scratch / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another run is downloading to {scratch}: wait for its end, or stop it"
            ) from None
        parts = [scratch / f"{file.sha256}.part" for file in files]
        _check_room(files, parts)
        _complete_all(dict(zip(parts, files, strict=True)))
        yield parts


def _complete_all(files: Mapping[Path, Remote]) -> None:
    """Receive every file into its part, several at once; the first that cannot be had ends all."""
    stop = Event()
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        try:
            for done in as_completed([pool.submit(_complete, files[p], p, stop) for p in files]):
                done.result()
        except BaseException:
            stop.set()  # what has arrived of the others stays
            pool.shutdown(cancel_futures=True)
            raise


def _check_room(files: Sequence[Remote], parts: Sequence[Path]) -> None:
    """See that what is missing has room, where its size is known; say what it will take."""
    sizes = zip(files, parts, strict=True)
    missing = sum(max(0, (file.wanted or 0) - _size(part)) for file, part in sizes)
    free = shutil.disk_usage(parts[0].parent).free
    words = f"{missing / 1e9:.1f} GB to download, {free / 1e9:.1f} GB are free"
    if missing > free:
        raise InputError(f"{words}: free some, the same command goes on")
    if missing > SPOKEN_OF:
        say(f"{words}; with its tokens, a text takes about twice its size at the height")


def _complete(file: Remote, part: Path, stop: Event) -> None:
    """Receive what `part` lacks and check the whole; what is not the pinned file is removed."""
    if part.exists() and _size(part) >= (file.wanted or 0):
        # An earlier run stopped after this file and before the others.
        if _digest(part, file) == file.sha256:
            return
        if file.wanted:  # as long as the file, and another
            part.unlink()
    _receive(file, part, stop)
    if file.first_bytes and _size(part) > file.first_bytes:  # from a server that knows no ranges
        os.truncate(part, file.first_bytes)
    found = _digest(part, file)
    if found != file.sha256:
        size = _size(part)
        if file.first_bytes:  # whoever asks for as many as they like cannot know it beforehand
            part.replace(part.with_name(f"{found}.part"))
            raise InputError(
                f"{file.address}: its first {size} bytes have sha256 {found}, not the {file.sha256}"
                f" that {file.setting} pins; if these are the bytes that you mean, pin that: they"
                " are kept, and not received again"
            )
        part.unlink()
        raise InputError(
            f"{file.address}: sha256 {found} of {size} bytes is not the {file.sha256}"
            f" that {file.setting} pins; removed, the next run starts afresh"
        )


def _digest(part: Path, file: Remote) -> str:
    """The sha256 of what has arrived, with a bar."""
    digest, name = hashlib.sha256(), PurePosixPath(file.place).name
    with open(part, "rb") as arrived, byte_bar(_size(part), f"check {name}", delay=1) as bar:
        while piece := arrived.read(HASHED_BYTES):
            digest.update(piece)
            bar.update(len(piece))
    return digest.hexdigest()


def _receive(file: Remote, part: Path, stop: Event) -> None:
    """Append to `part` what it lacks, over as many connections as that takes."""
    receive = _from_hub if file.page else _from_mirror
    failures = 0
    while True:
        before = _size(part)
        try:
            return receive(file, part, stop)
        except _InterruptedError as error:
            arrived = _size(part)
            if arrived == 0:
                raise InputError(
                    f"cannot fetch {file.address} ({error}): without a network {file.otherwise}"
                ) from None
            failures = 1 if arrived > before else failures + 1
            if failures >= ATTEMPTS:
                raise InputError(
                    f"{file.address} broke off after {arrived / 1e6:.1f} MB ({error}):"
                    " the same command goes on from there"
                ) from None
            if stop.wait(RETRY_WAIT_S):
                raise _StoppedError from None


def _from_hub(file: Remote, part: Path, stop: Event) -> None:
    """Append the rest with huggingface_hub, which repeats what breaks and keeps the token home."""
    # The library holds 10 MB in memory before it writes them, and a kill would lose those.
    constants.DOWNLOAD_CHUNK_SIZE = PIECE_BYTES
    try:
        size = get_hf_file_metadata(file.url).size
        if size not in (None, file.bytes):  # before a byte of `part` is lost
            raise InputError(
                f"{file.address} has {size} bytes, but {file.setting} pins {file.bytes}:"
                " not the file that was meant"
            )
        with open(part, "ab") as out:
            http_get(
                file.url,  # not where it led: a signed address expires before a long download ends
                cast(BinaryIO, _Bounded(out, file, stop)),
                resume_size=out.tell(),
                headers=build_hf_headers(headers=UNCOMPRESSED | _up_to(file.first_bytes)),
                expected_size=file.wanted,
                displayed_filename=PurePosixPath(file.place).name,
            )
    except (OfflineModeIsEnabled, HfHubHTTPError) as error:  # no connection that broke
        raise InputError(problem(error, _asked(file))) from None
    except HTTPError as error:
        raise _InterruptedError(type(error).__name__) from error
    except OSError as error:
        if error.errno is not None:  # the disk's; else the library misses bytes: see the digest
            raise
    except InputError:
        raise
    except (ValueError, ImportError) as error:  # of its client, which looks at the environment
        raise InputError(
            f"cannot fetch {file.address} ({error}): check that server, and"
            " the proxy that the environment names"
        ) from None


def _from_mirror(file: Remote, part: Path, stop: Event) -> None:
    """Append the rest; from the start where the server does not go on where `part` ends."""
    have = _size(part)
    headers = UNCOMPRESSED | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(file.url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            status, range_ = response.status_code, response.headers.get("Content-Range", "")
            elsewhere = status == 206 and not range_.startswith(f"bytes {have}-")
            if have and (elsewhere or status == 416):
                part.unlink()
                return _from_mirror(file, part, stop)
            if status not in (200, 206):
                advice = (
                    f"try again later{KEPT}" if try_later(status) else f"check {file.setting}.url"
                )
                raise InputError(f"{file.address} answered {status} {response.reason}: {advice}")
            if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
                raise InputError(
                    f"{file.address} comes packed ({coding}), though it was asked for as it is:"
                    " take another mirror, or fetch it elsewhere and use data.source: local"
                )
            start = have if status == 206 else 0
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdecimal() else None
            if file.bytes and total and total != file.bytes:
                raise InputError(
                    f"{file.address} has {total} bytes, but {file.setting}.bytes is {file.bytes}:"
                    " not the file that was meant"
                )
            with (
                open(part, "ab" if start else "wb") as opened,
                byte_bar(total, PurePosixPath(file.place).name, initial=start) as bar,
            ):
                out = _Bounded(opened, file, stop)
                for piece in response.iter_content(PIECE_BYTES):
                    out.write(piece)
                    bar.update(len(piece))
    except InputError:
        raise
    except (requests.RequestException, ValueError) as error:  # or where it leads to is no address
        raise _InterruptedError(type(error).__name__) from error


def _up_to(first_bytes: int | None) -> dict[str, str]:
    """The header that asks for no more; the library moves its start to where it goes on."""
    return {"Range": f"bytes=0-{first_bytes - 1}"} if first_bytes else {}


def _asked(file: Remote) -> Asked:
    """What is asked of the hub, by the settings that name it."""
    return Asked(
        what=file.address,
        repo=str(file.page),
        revision=str(file.revision),
        check_repo=f"{file.setting}.repo",
        check_revision=f"{file.setting}.revision",
        check_files=f"{file.setting}.files",
        check=file.setting,
        otherwise=file.otherwise,
        kept=KEPT,
    )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
