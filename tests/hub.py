"""A Hugging Face hub on the loopback interface, for tests: enough for the real client.

    with serve_hub({("datasets", "owner/name", "main"): {"a.txt": b"..."}}) as hub:
        hf_hub_download("owner/name", "a.txt", repo_type="dataset", endpoint=hub.endpoint, ...)

It answers HEAD and GET with ranges, lists repositories, creates them and takes commits, notes what
was asked, and can misbehave: cut a connection or let it hang, refuse, ignore ranges or answer
another, send a reader to another host, or something else than the file. Files given as `mirror` lie
at their plain paths (`endpoint/NAME`), as on a mirror that knows nothing of the hub.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote

Repositories = Mapping[tuple[str, str, str], Mapping[str, bytes]]
RESOLVE = re.compile(
    r"/(?P<datasets>datasets/)?(?P<repo>.+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)"
)
LISTING = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)"
    r"(/(?P<part>revision|tree)/(?P<revision>[^/]+))?"
)
CHANGE = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<repo>.+)/(?P<step>preupload|commit)/(?P<revision>[^/]+)"
)
FROM_BYTE = re.compile(r"bytes=(\d+)-(\d*)")


class Request(NamedTuple):
    """One request as it came in."""

    method: str
    path: str
    range: str | None
    authorization: str | None


class Refusal(NamedTuple):
    """A status without a file, the hub's X-Error-Code, and a body."""

    status: int
    code: str | None = None
    body: bytes = b""


@dataclass
class Hub:
    """What is served, what was asked, and the faults that are due. All may be changed meanwhile."""

    repositories: Repositories
    mirror: Mapping[str, bytes]
    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    private: set[str] = field(default_factory=set)  # names of repositories
    commits: list[str] = field(default_factory=list)  # the messages, in order
    cuts: list[int] = field(default_factory=list)  # break the next bodies after so many bytes
    hangs: bool = False  # what is cut is not closed: silence until the client goes
    refusal: Refusal | None = None  # of every request, until it is None again
    ranges: bool = True  # False: the server ignores Range
    early: int = 0  # a range starts so many bytes before what was asked
    redirect_to: str | None = None  # another endpoint that holds the hub's files
    instead: tuple[Mapping[str, str], Iterable[bytes]] | None = None  # headers, body of each GET

    def ranges_asked(self) -> list[str | None]:
        """The Range of each GET, in order."""
        return [request.range for request in self.requests if request.method == "GET"]

    def find(self, path: str) -> bytes | Refusal:
        """The file or listing at `path`, or why there is none."""
        if self.refusal:
            return self.refusal
        if path.lstrip("/") in self.mirror:
            return self.mirror[path.lstrip("/")]
        if match := LISTING.fullmatch(path):
            return self._listing(match)
        if not (match := RESOLVE.fullmatch(path)):
            return Refusal(404)
        kind = "datasets" if match["datasets"] else "models"
        files = self.files(kind, match["repo"], match["revision"])
        if isinstance(files, Refusal):
            return files
        return files.get(match["name"], Refusal(404, "EntryNotFound"))

    def files(self, kind: str, repo: str, revision: str) -> Mapping[str, bytes] | Refusal:
        """What a repository holds at a revision: a branch, or the commit that it is at."""
        branches = [key for key in self.repositories if key[:2] == (kind, repo)]
        if not branches:
            return Refusal(404, "RepoNotFound")
        for key in branches:
            if revision in (key[2], self.commit(*key)):
                return self.repositories[key]
        return Refusal(404, "RevisionNotFound")

    def commit(self, kind: str, repo: str, revision: str) -> str:
        """The commit of a revision: itself where it is one, else a digest of what it holds."""
        if re.fullmatch("[0-9a-f]{40}", revision):
            return revision
        digest = hashlib.sha1(revision.encode())
        for name, content in sorted(self.repositories[kind, repo, revision].items()):
            digest.update(name.encode() + hashlib.sha1(content).digest())
        return digest.hexdigest()

    def change(self, path: str, body: bytes) -> bytes | Refusal:
        """Carry out a POST: create a repository, or take a commit to one."""
        if self.refusal:
            return self.refusal
        if path == "/api/validate-yaml":
            return b'{"errors": [], "warnings": []}'
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if not (match := CHANGE.fullmatch(path)):
            return Refusal(404)
        key = match["kind"], match["repo"], match["revision"]
        held = self.files(*key)
        if isinstance(held, Refusal):
            return held
        if match["step"] == "preupload":  # "regular": the files come with the commit itself
            asked = json.loads(body)["files"]
            how = {"uploadMode": "regular", "shouldIgnore": False}
            return _json({"files": [{"path": file["path"], **how} for file in asked]})
        new = dict(held)
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "header":
                self.commits.append(line["value"]["summary"])
            else:
                assert line["key"] == "file", line["key"]
                new[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.repositories = {**self.repositories, key: new}
        commit = self.commit(*key)
        url = f"{self.endpoint}/{match['repo']}/commit/{commit}"
        return _json({"commitUrl": url, "commitOid": commit})

    def _create(self, asked: dict[str, Any]) -> bytes | Refusal:
        repo = f"{asked.get('organization') or 'owner'}/{asked['name']}"
        answer = _json({"url": f"{self.endpoint}/{repo}"})
        if any(key[:2] == ("models", repo) for key in self.repositories):
            return Refusal(409, body=answer)
        self.repositories = {**self.repositories, ("models", repo, "main"): {}}
        if asked.get("visibility") == "private":
            self.private.add(repo)
        return answer

    def _listing(self, match: re.Match[str]) -> bytes | Refusal:
        kind, repo, revision = match["kind"], match["repo"], match["revision"] or "main"
        files = self.files(kind, repo, revision)
        if isinstance(files, Refusal):
            return files
        if match["part"] == "tree":
            return _json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": _blob(content)}
                    for name, content in files.items()
                ]
            )
        commit = self.commit(kind, repo, revision)
        return _json({"id": repo, "sha": commit, "private": repo in self.private, "siblings": []})


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _blob(content: bytes) -> str:
    """git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


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
    """HEAD, GET and POST of one hub."""

    served: Hub
    protocol_version = "HTTP/1.1"
    timeout = 5  # seconds until an idle connection is closed

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        path = self._noted()
        done = self.served.change(path, self.rfile.read(int(self.headers["Content-Length"])))
        if isinstance(done, Refusal):
            self._refuse(done)
        else:
            self._send(200, {"Content-Type": "application/json"}, done)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Requests are noted in the hub, not printed."""

    def _noted(self) -> str:
        """The path that was asked for, now among the hub's requests."""
        path, sent = unquote(self.path.partition("?")[0]), self.headers
        request = Request(self.command, path, sent.get("Range"), sent.get("Authorization"))
        self.served.requests.append(request)
        return path

    def _answer(self) -> None:
        path, hub = self._noted(), self.served
        found = hub.find(path)
        if isinstance(found, Refusal):
            self._refuse(found)
            return
        headers = {"ETag": f'"{hashlib.sha256(found).hexdigest()}"', "Accept-Ranges": "bytes"}
        if match := RESOLVE.fullmatch(path):
            kind = "datasets" if match["datasets"] else "models"
            headers |= {
                "X-Repo-Commit": hub.commit(kind, match["repo"], match["revision"]),
                "X-Linked-Etag": headers["ETag"],
                "X-Linked-Size": str(len(found)),
            }
            if hub.redirect_to:
                self._send(302, headers | {"Location": hub.redirect_to + self.path})
                return
        if hub.instead and self.command == "GET":
            self._stream(*hub.instead)
            return
        range_ = FROM_BYTE.fullmatch(self.headers.get("Range", "")) if hub.ranges else None
        start = int(range_[1]) - hub.early if range_ else 0
        if range_ and start >= len(found):
            self._send(416, {"Content-Range": f"bytes */{len(found)}"})
            return
        if range_:
            end = min(int(range_[2] or len(found)) + 1, len(found))
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(found)}"
        self._send(206 if range_ else 200, headers, found[start : end if range_ else None])

    def _refuse(self, refusal: Refusal) -> None:
        code = {"X-Error-Code": refusal.code} if refusal.code else {}
        self._send(refusal.status, code, refusal.body)

    def _stream(self, headers: Mapping[str, str], body: Iterable[bytes]) -> None:
        """A body whose end only the connection's end tells, unless a header does."""
        self.close_connection = True
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # the client has seen enough
            self.wfile.writelines(body)

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
