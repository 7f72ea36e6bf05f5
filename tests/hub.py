"""A Hugging Face hub on the loopback interface, for tests: enough for the real client.

    with serve_hub({("datasets", "owner/name", "main"): {"a.txt": b"..."}}) as hub:
        hf_hub_download("owner/name", "a.txt", repo_type="dataset", endpoint=hub.endpoint, ...)

It answers HEAD and GET with ranges, notes what was asked, and can misbehave: cut a connection or
let it hang, refuse, ignore ranges or answer another, send a reader to another host. Files given as
`mirror` lie at their plain paths (`endpoint/NAME`), as on a mirror that knows nothing of the hub.
"""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote

Repositories = Mapping[tuple[str, str, str], Mapping[str, bytes]]
RESOLVE = re.compile(
    r"/(?P<datasets>datasets/)?(?P<repo>.+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)"
)
FROM_BYTE = re.compile(r"bytes=(\d+)-")


class Request(NamedTuple):
    """One request as it came in."""

    method: str
    path: str
    range: str | None
    authorization: str | None


class Refusal(NamedTuple):
    """A status without a file, and the hub's X-Error-Code."""

    status: int
    code: str | None = None


@dataclass
class Hub:
    """What is served, what was asked, and the faults that are due. All may be changed meanwhile."""

    repositories: Repositories
    mirror: Mapping[str, bytes]
    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # break the next bodies after so many bytes
    hangs: bool = False  # what is cut is not closed: silence until the client goes
    refusal: Refusal | None = None  # of every file, until it is None again
    ranges: bool = True  # False: the server ignores Range
    early: int = 0  # a range starts so many bytes before what was asked
    redirect_to: str | None = None  # another endpoint that holds the hub's files

    def ranges_asked(self) -> list[str | None]:
        """The Range of each GET, in order."""
        return [request.range for request in self.requests if request.method == "GET"]

    def find(self, path: str) -> bytes | Refusal:
        """The file at `path`, or why there is none."""
        if self.refusal:
            return self.refusal
        if path.lstrip("/") in self.mirror:
            return self.mirror[path.lstrip("/")]
        if not (match := RESOLVE.fullmatch(path)):
            return Refusal(404)
        kind, repo = "datasets" if match["datasets"] else "models", match["repo"]
        if not any(key[:2] == (kind, repo) for key in self.repositories):
            return Refusal(404, "RepoNotFound")
        files = self.repositories.get((kind, repo, match["revision"]))
        if files is None:
            return Refusal(404, "RevisionNotFound")
        return files.get(match["name"], Refusal(404, "EntryNotFound"))


@contextmanager
def serve_hub(
    repositories: Repositories | None = None, mirror: Mapping[str, bytes] | None = None
) -> Iterator[Hub]:
    """Serve {("datasets" | "models", repo, revision): {name: bytes}} and plain {path: bytes}."""
    hub = Hub(repositories or {}, mirror or {})

    class Handler(_Handler):
        served = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False  # clients keep idle connections open
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """HEAD and GET of one hub."""

    served: Hub
    protocol_version = "HTTP/1.1"
    timeout = 5  # seconds until an idle connection is closed

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Requests are noted in the hub, not printed."""

    def _answer(self) -> None:
        hub, path = self.served, unquote(self.path.partition("?")[0])
        asked = self.headers.get("Range")
        hub.requests.append(Request(self.command, path, asked, self.headers.get("Authorization")))
        found = hub.find(path)
        if isinstance(found, Refusal):
            self._send(found.status, {"X-Error-Code": found.code} if found.code else {})
            return
        headers = {"ETag": f'"{hashlib.sha256(found).hexdigest()}"', "Accept-Ranges": "bytes"}
        if match := RESOLVE.fullmatch(path):
            headers |= {
                "X-Repo-Commit": _commit(match["revision"]),
                "X-Linked-Etag": headers["ETag"],
                "X-Linked-Size": str(len(found)),
            }
            if hub.redirect_to:
                self._send(302, headers | {"Location": hub.redirect_to + self.path})
                return
        range_ = FROM_BYTE.fullmatch(asked or "") if hub.ranges else None
        start = int(range_[1]) - hub.early if range_ else 0
        if range_ and start >= len(found):
            self._send(416, {"Content-Range": f"bytes */{len(found)}"})
            return
        if range_:
            headers["Content-Range"] = f"bytes {start}-{len(found) - 1}/{len(found)}"
        self._send(206 if range_ else 200, headers, found[start:])

    def _send(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.served.cuts.pop(0) if body and self.served.cuts else None
        with suppress(OSError):  # the client has seen enough
            self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True
                if self.served.hangs:
                    self.rfile.read(1)


def _commit(revision: str) -> str:
    """The commit of a revision: itself where it is one."""
    is_commit = re.fullmatch("[0-9a-f]{40}", revision)
    return revision if is_commit else hashlib.sha1(revision.encode()).hexdigest()
