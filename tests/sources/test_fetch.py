"""The download stage against a hub and a mirror on the loopback interface."""

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from dvc.fs import LocalFileSystem
from dvc.ignore import DvcIgnoreFilter
from huggingface_hub import file_download

from ncn.common.errors import InputError
from ncn.settings import END_OF_TEXT, Params, load_params
from ncn.sources import fetch as sources
from ncn.sources import local_texts, transfer
from ncn.sources.fetch import check_text, fetch
from tests.conftest import PARAMS, ROOT
from tests.hub import Hub, Refusal, serve_hub

SHARED = ROOT.parent / "shared" / "data"
TEXT = b"".join(b"Story %d: a fox sat by the sea.\n<|endoftext|>\n" % i for i in range(50_000))
VOCABULARY = {"vocab.json": b'{"a": 0}', "merges.txt": b"#version: 0.2\n"}
REPO, REVISION, NAME = "owner/stories", "a" * 40, "stories.txt"
PIECE = transfer.PIECE_BYTES
DEFAULTS = load_params(PARAMS)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scratch below tmp_path, no proxy, a token of our own, and no waiting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(transfer, "RETRY_WAIT_S", 0.0)
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repositories = {
        ("datasets", REPO, REVISION): {NAME: TEXT},
        ("models", "owner/gpt", REVISION): VOCABULARY,
    }
    with serve_hub(repositories, mirror={"plain/text.txt": TEXT}) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


def pinned(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def settings(**data: Any) -> Params:
    """The tests' params.yaml with these changes in its data section."""
    content = DEFAULTS.model_dump()
    content["data"] |= data
    return Params.model_validate(content)


def of_hub(content: bytes = TEXT, **changes: Any) -> Params:
    files = {"repo": REPO, "revision": REVISION, "files": [pinned(NAME, content)]}
    return settings(source="tinystories-v2", hub=files | changes)


def of_url(hub: Hub, content: bytes = TEXT) -> Params:
    digest = pinned("", content)["sha256"]
    return settings(source="url", url=f"{hub.endpoint}/plain/text.txt", sha256=digest)


def run(params: Params, directory: str = "data/raw") -> dict[str, bytes]:
    """Fetch; what the directory then holds, by path."""
    raw = Path(directory)
    fetch(params.data, params.tokenizer, params.seed, raw)
    files = (path for path in raw.rglob("*") if path.is_file())
    return {path.relative_to(raw).as_posix(): path.read_bytes() for path in files}


def refused(params: Params) -> str:
    """The one line with which fetching stops; what was in place before is untouched."""
    before = Path("data/raw/manifest.json")
    before.parent.mkdir(parents=True, exist_ok=True)
    before.write_text('{"files": []}')
    with pytest.raises(InputError) as error:
        run(params)
    assert [path.name for path in Path("data").rglob("*")] == ["raw", "manifest.json"]
    assert "\n" not in str(error.value)
    return str(error.value)


def for_stage() -> dict[str, str]:
    """The environment of a stage as a process of its own."""
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(Path("hf").absolute())}
    return os.environ | quiet | {"PYTHONPATH": str(ROOT)}


def parts() -> list[int]:
    return [part.stat().st_size for part in Path(".scratch/download").glob("*.part")]


def test_hf_hub_download_gets_the_same_bytes_so_the_loopback_hub_speaks_the_protocol(
    hub: Hub, tmp_path: Path
) -> None:
    where = {"repo_type": "dataset", "endpoint": hub.endpoint, "cache_dir": tmp_path / "cache"}
    path = huggingface_hub.hf_hub_download(REPO, NAME, revision=REVISION, **where)
    assert Path(path).read_bytes() == TEXT == run(of_hub())["text/000000-stories.txt"]
    with pytest.raises(huggingface_hub.errors.RevisionNotFoundError):
        huggingface_hub.hf_hub_download(REPO, NAME, revision="b" * 40, **where)
    with pytest.raises(huggingface_hub.errors.EntryNotFoundError):
        huggingface_hub.hf_hub_download(REPO, "none.txt", revision=REVISION, **where)


def test_builtin_stories_are_the_same_every_time() -> None:
    params = settings(stories=20)
    first, second = run(params), run(params, "again")
    assert first == second
    assert set(first) == {"text/stories.txt", "manifest.json"}
    assert first["text/stories.txt"].endswith(b"\n<|endoftext|>\n")
    assert first["text/stories.txt"].count(b"\n<|endoftext|>\n") == 20


def test_the_hub_gives_text_and_vocabulary_and_the_manifest_names_both(hub: Hub) -> None:
    params = of_hub()
    files = [pinned(name, content) for name, content in VOCABULARY.items()]
    of_model = {"repo": "owner/gpt", "revision": REVISION, "files": files}
    content = params.model_dump()
    content["tokenizer"] |= {"vocabulary": "gpt2", "hub": of_model}
    found = run(Params.model_validate(content))
    manifest = json.loads(found.pop("manifest.json"))
    assert found == {
        "text/000000-stories.txt": TEXT,
        "tokenizer/vocab.json": VOCABULARY["vocab.json"],
        "tokenizer/merges.txt": VOCABULARY["merges.txt"],
    }
    assert (manifest["repo"], manifest["revision"]) == (REPO, REVISION)
    assert manifest["tokenizer"]["repo"] == "owner/gpt"
    for entry in manifest["files"]:
        path = entry.pop("path")
        assert entry == {k: v for k, v in pinned("", found[path]).items() if k != "name"}
    assert parts() == []


def test_real_stories_and_the_pinned_gpt2_files_come_through_the_hub(hub: Hub) -> None:
    if not SHARED.exists():
        pytest.skip("needs ../shared/data: tinystories_sample.txt and gpt2/")
    real = (SHARED / "tinystories_sample.txt").read_bytes()
    pins = DEFAULTS.tokenizer.hub
    gpt2 = {file.name: (SHARED / "gpt2" / file.name).read_bytes() for file in pins.files}
    hub.repositories = {
        ("datasets", REPO, REVISION): {NAME: real},
        ("models", pins.repo, pins.revision): gpt2,
    }
    content = of_hub(real).model_dump()
    content["tokenizer"]["vocabulary"] = "gpt2"  # repository, revision and digests as committed
    found = run(Params.model_validate(content))
    assert found["text/000000-stories.txt"] == real
    assert {name: found[f"tokenizer/{name}"] for name in gpt2} == gpt2


def with_vocabulary(**changed: bytes) -> Params:
    """The text and a vocabulary, both of the hub; `changed` is pinned in place of what is there."""
    content = of_hub().model_dump()
    pins = {name: changed.get(name.split(".")[0], held) for name, held in VOCABULARY.items()}
    files = [pinned(name, held) for name, held in pins.items()]
    of_model = {"repo": "owner/gpt", "revision": REVISION, "files": files}
    content["tokenizer"] |= {"vocabulary": "gpt2", "hub": of_model}
    return Params.model_validate(content)


def test_several_files_come_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    together, received = threading.Barrier(3, timeout=30), transfer.http_get

    def get(*positional: Any, **named: Any) -> None:
        together.wait()  # until all three are asked for
        received(*positional, **named)

    monkeypatch.setattr(transfer, "http_get", get)
    assert len(run(with_vocabulary())) == 4


def test_a_file_that_cannot_be_had_ends_the_others_which_are_kept(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    received, begun = transfer.http_get, threading.Event()

    def get(url: str, out: Any, **named: Any) -> None:
        if not url.endswith(NAME):
            begun.wait(30)
            received(url, out, **named)
            return
        for first in range(0, 10**9, PIECE):  # without an end, if nobody says so
            time.sleep(0.01)
            out.write(TEXT[:PIECE] if first == 0 else b"")
            begun.set()

    monkeypatch.setattr(transfer, "http_get", get)
    words = refused(with_vocabulary(merges=b"#version: 0.3\n"))
    assert "is not the" in words
    assert "tokenizer.hub pins" in words
    assert PIECE in parts()
    monkeypatch.setattr(transfer, "http_get", received)
    assert TEXT in run(with_vocabulary()).values()
    assert f"bytes={PIECE}-" in hub.ranges_asked()


BOTH_WAYS = pytest.mark.parametrize("source", [lambda hub: of_hub(), of_url], ids=["hub", "url"])


@BOTH_WAYS
def test_a_broken_download_goes_on_by_itself_from_where_it_broke(hub: Hub, source: Any) -> None:
    hub.cuts = [20 * PIECE, 3 * PIECE + 5]
    assert TEXT in run(source(hub)).values()
    assert hub.ranges_asked() == [None, f"bytes={20 * PIECE}-", f"bytes={23 * PIECE}-"]


@BOTH_WAYS
def test_a_server_that_falls_silent_is_left_and_asked_for_the_rest(
    hub: Hub, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT_S", (10, 0.5))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    hub.cuts, hub.hangs = [20 * PIECE], True
    assert TEXT in run(source(hub)).values()
    assert hub.ranges_asked() == [None, f"bytes={20 * PIECE}-"]


@BOTH_WAYS
def test_the_next_run_asks_only_for_the_rest(hub: Hub, source: Any) -> None:
    hub.cuts = [20 * PIECE, *([0] * 50)]
    assert "broke off after 1.3 MB" in (message := refused(source(hub)))
    assert "the same command goes on from there" in message
    assert parts() == [20 * PIECE]
    hub.cuts.clear()
    hub.requests.clear()
    assert TEXT in run(source(hub)).values()
    assert hub.ranges_asked() == [f"bytes={20 * PIECE}-"]


@BOTH_WAYS
def test_a_run_killed_in_mid_download_goes_on(hub: Hub, source: Any) -> None:
    params = source(hub)
    Path("params.yaml").write_text(json.dumps(params.model_dump()))
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    hub.cuts, hub.hangs = [20 * PIECE], True
    with subprocess.Popen([sys.executable, "-m", "stages.download"], env=for_stage()) as stage:
        deadline = time.monotonic() + 60
        while 20 * PIECE not in parts() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert 20 * PIECE in parts()
        stage.kill()
    assert list(Path().glob("data/*")) == []
    assert TEXT in run(params).values()
    assert hub.ranges_asked() == [None, f"bytes={20 * PIECE}-"]


@BOTH_WAYS
def test_a_server_that_never_goes_on_is_given_up(hub: Hub, source: Any) -> None:
    hub.cuts = [PIECE, *([0] * 500)]
    assert "broke off after 0.1 MB" in refused(source(hub))
    assert 1 < len(hub.ranges_asked()) < 50


@BOTH_WAYS
def test_a_server_that_gives_nothing_is_given_up_with_the_way_out(hub: Hub, source: Any) -> None:
    hub.cuts = [0] * 50
    assert "set data.source to builtin" in refused(source(hub))


@BOTH_WAYS
def test_a_server_that_ignores_range_is_read_from_the_start(hub: Hub, source: Any) -> None:
    hub.ranges, hub.cuts = False, [20 * PIECE]
    assert TEXT in run(source(hub)).values()
    assert hub.ranges_asked() == [None, f"bytes={20 * PIECE}-"]


def test_a_mirror_that_goes_on_elsewhere_is_read_from_the_start(hub: Hub) -> None:
    hub.early, hub.cuts = 1, [20 * PIECE]
    assert TEXT in run(of_url(hub)).values()
    assert hub.ranges_asked() == [None, f"bytes={20 * PIECE}-", None]


def test_a_hub_that_goes_on_elsewhere_never_becomes_data(hub: Hub) -> None:
    hub.early, hub.cuts = 1, [20 * PIECE]  # the library appends what came
    assert "removed, the next run starts afresh" in refused(of_hub())
    assert TEXT in run(of_hub()).values()


def leave_part(params: Params, content: bytes) -> None:
    """Scratch as an earlier run leaves it."""
    digest = params.data.sha256 or params.data.hub.files[0].sha256
    part = Path(".scratch/download") / f"{digest}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)


@BOTH_WAYS
def test_scratch_longer_than_the_file_is_dropped(hub: Hub, source: Any) -> None:
    leave_part(source(hub), TEXT + b"x")
    assert TEXT in run(source(hub)).values()
    assert hub.ranges_asked()[-1] is None


@BOTH_WAYS
def test_scratch_as_long_as_the_file_but_other_is_dropped(hub: Hub, source: Any) -> None:
    leave_part(source(hub), TEXT.replace(b"fox", b"cat"))
    assert TEXT in run(source(hub)).values()
    assert hub.ranges_asked()[-1] is None


@BOTH_WAYS
def test_what_arrived_whole_is_not_asked_for_again(hub: Hub, source: Any) -> None:
    leave_part(source(hub), TEXT)
    assert TEXT in run(source(hub)).values()
    assert hub.requests == []


def test_a_wrong_digest_leaves_the_old_data_and_no_scratch(hub: Hub) -> None:
    other = TEXT.replace(b"fox", b"cat")
    assert "data.hub pins" in refused(of_hub(other))
    assert "is not the" in refused(of_url(hub, other))
    assert parts() == []


def test_a_wrong_size_stops_before_the_scratch_is_lost(hub: Hub) -> None:
    params = of_hub(TEXT + b"more")
    leave_part(params, TEXT[:500])
    assert f"has {len(TEXT)} bytes, but data.hub pins {len(TEXT) + 4}" in refused(params)
    assert parts() == [500]


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        (
            Refusal(401, "GatedRepo"),
            "/datasets/owner/stories is gated: accept its terms there and log in",
        ),
        (Refusal(403, "GatedRepo"), "log in with `hf auth login`"),
        (Refusal(401), "log in with `hf auth login`"),
        (Refusal(401, "RepoNotFound"), "does not exist, or is private"),
        (Refusal(404), "check data.hub"),
        (Refusal(429), "429 Too Many Requests: try again later; what has arrived is kept"),
        (Refusal(500), "500 Internal Server Error: try again later"),
    ],
)
def test_a_refusal_says_what_to_do(hub: Hub, refusal: Refusal, advice: str) -> None:
    hub.refusal = refusal
    assert re.search(advice, refused(of_hub()))


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"repo": "owner/none"}, "data.hub.repo"),
        ({"repo": "no repo"}, "data.hub.repo"),
        ({"revision": "b" * 40}, "data.hub.revision"),
        ({"files": [pinned("none.txt", TEXT)]}, "data.hub.files"),
    ],
)
def test_what_the_hub_does_not_have_is_named_by_its_setting(
    hub: Hub, changes: dict[str, Any], setting: str
) -> None:
    assert setting in refused(of_hub(**changes))


def test_without_a_network_the_way_out_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert "set data.source to builtin" in refused(of_hub())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    assert "HF_HUB_OFFLINE is set" in refused(of_hub())
    assert hub.requests == []


def test_a_proxy_that_cannot_be_used_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def client(*_: object, **__: object) -> None:  # as httpx makes one for HTTPS_PROXY=socks9://x
        raise ValueError("Unknown scheme for proxy URL URL('socks9://x')")

    monkeypatch.setattr("ncn.sources.transfer.get_hf_file_metadata", client)
    words = refused(of_hub())
    assert "Unknown scheme for proxy URL" in words
    assert "the proxy that the environment names" in words


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HF_ENDPOINT", "hub.example.org", "it should begin with http"),
        ("HF_ENDPOINT", "http://[", "no address: Invalid"),
        ("HF_ENDPOINT", "https://", "a host is missing in 'https://'"),
        ("HF_ENDPOINT", "https:///path", "a host is missing in"),
        ("HUGGING_FACE_HUB_TOKEN", "hf_te–st", "'–' is in no token"),
        ("SSL_CERT_DIR", "none", "none is no folder that exists"),
        ("HF_TOKEN", "hf_te–st", "'–' is in no token"),
        ("HF_TOKEN", "hf_test\n", r"'\n' is in no token"),
        ("SSL_CERT_FILE", "none.pem", "none.pem does not exist"),
        ("SSL_CERT_FILE", "bad.pem", "bad.pem holds no PEM certificates"),
        ("REQUESTS_CA_BUNDLE", "bad.pem", "bad.pem holds no PEM certificates"),
    ],
)
def test_a_variable_that_no_client_can_use_is_named(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    Path("bad.pem").write_text("no certificate")
    monkeypatch.delenv("HF_TOKEN")  # which comes before the other
    monkeypatch.setenv(variable, value)
    for params in (of_hub(), of_url(hub)):
        message = refused(params)
        assert message.startswith(f"{variable}: ")
        assert words in message
    assert hub.requests == []


@pytest.mark.parametrize("token", ["hf_te–st".encode(), b"hf_te\x96st"], ids=["dash", "Latin-1"])
def test_a_token_file_that_no_client_can_use_is_named(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, token: bytes
) -> None:
    file = Path("token").absolute()
    file.write_bytes(token)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(file))
    for params in (of_hub(), of_url(hub)):
        assert refused(params).startswith(f"{file}: ")
    assert hub.requests == []
    file.write_bytes(b"hf_test\n")  # as an editor leaves it, which the library takes
    assert TEXT in run(of_hub()).values()


def test_the_token_goes_to_the_hub_and_to_no_other_host(hub: Hub) -> None:
    with serve_hub(hub.repositories) as storage:
        hub.redirect_to = storage.endpoint.replace("127.0.0.1", "localhost")
        assert TEXT in run(of_hub()).values()
        assert [request.method for request in hub.requests] == ["HEAD", "GET"]
        assert {request.authorization for request in hub.requests} == {"Bearer hf_test"}
        assert [request.authorization for request in storage.requests] == [None]


def test_no_line_has_a_password_or_a_signature(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = hub.endpoint.replace("http://", "http://me:hf_secret@")
    monkeypatch.setenv("HF_ENDPOINT", secret)
    digest = pinned("", TEXT)["sha256"]
    by_url = settings(source="url", url=f"{secret}/none.txt?key=hf_secret", sha256=digest)
    for refusal in (Refusal(404), Refusal(500), Refusal(401, "GatedRepo")):
        hub.refusal = refusal
        for params in (of_hub(), by_url):
            words = refused(params)
            assert hub.endpoint in words
            assert "hf_secret" not in words


@pytest.mark.parametrize("name", ["a\0b", "../x", "..", "", ".", "/etc/passwd"])
def test_a_name_that_is_no_file_of_a_repository_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a file of the repository is needed"):
        of_hub(files=[pinned(name, TEXT)])


def test_a_long_name_becomes_a_short_one(hub: Hub) -> None:
    name = "é" * 300
    hub.repositories = {("datasets", REPO, REVISION): {name: TEXT}}
    assert TEXT in run(of_hub(files=[pinned(name, TEXT)])).values()


def test_a_storage_that_fails_is_named_and_what_has_arrived_is_kept(hub: Hub) -> None:
    leave_part(of_hub(), TEXT[:500])
    with serve_hub(hub.repositories) as storage:
        hub.redirect_to, storage.refusal = storage.endpoint, Refusal(503)
        assert "503 Service Unavailable: try again later" in refused(of_hub())
        assert parts() == [500]
        storage.refusal = None
        assert TEXT in run(of_hub()).values()
        assert storage.ranges_asked() == ["bytes=500-", "bytes=500-"]


def test_two_downloads_at_once_do_not_share_scratch(hub: Hub) -> None:
    with transfer.downloaded(sources._remote_texts(of_hub().data), Path(".scratch/download")):
        assert "another run is downloading" in refused(of_url(hub))


@pytest.mark.parametrize(
    ("status", "advice"),
    [(404, "404 Not Found: check data.url"), (416, "check data.url"),
     (429, "429 Too Many Requests: try again later"), (500, "Server Error: try again later"),
     (503, "try again later")],
)  # fmt: skip
def test_a_mirror_that_refuses_is_one_line(hub: Hub, status: int, advice: str) -> None:
    hub.refusal = Refusal(status)
    assert advice in refused(of_url(hub))


@contextmanager
def mirror(headers: dict[str, str], body: Iterable[bytes], status: int = 200) -> Iterator[str]:
    """The address of a file at a server that answers as it likes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):
                for piece in body:
                    self.wfile.write(piece)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/text.txt"
        finally:
            server.shutdown()
            thread.join()


ENDLESS = [b"x" * PIECE] * 4000  # 260 MB
PACKED = [gzip.compress(bytes(20_000_000))]


@pytest.mark.parametrize(
    ("headers", "body", "size", "words"),
    [
        ({}, ENDLESS, 1000, "sends more than the 1000 bytes that data pins; removed, the"),
        ({}, ENDLESS, None, "sends more than 1,000,000 bytes: set data.bytes if it is so long"),
        ({"Content-Length": "abc"}, ENDLESS, None, "sends more than 1,000,000 bytes"),
        ({"Content-Length": "7"}, [b"stories"], 8, "has 7 bytes, but data.bytes is 8: not the"),
        ({"Content-Encoding": "gzip"}, PACKED, None, "comes packed (gzip), though it was asked"),
        ({"Content-Length": "7"}, [b"stories"], 7, "is not the"),  # the digest
        ({"Content-Length": "-5"}, [b"stories"], None, ""),
    ],
)  # fmt: skip
def test_a_mirror_that_sends_something_else_is_one_line_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    body: list[bytes],
    size: int | None,
    words: str,
) -> None:
    monkeypatch.setattr(transfer, "MOST_BYTES", 1_000_000)
    with mirror(headers, body) as url:
        digest = pinned("", TEXT)["sha256"]
        assert words in refused(settings(source="url", url=url, sha256=digest, bytes=size))
    assert sum(parts()) <= 1_000_000


@pytest.mark.parametrize(
    "place",
    ["file:///etc/hostname", "ftp://127.0.0.1/text.txt", "//[", "http://127.0.0.1:1/text.txt"],
)
def test_a_mirror_that_sends_elsewhere_is_one_line(place: str) -> None:
    with mirror({"Location": place, "Content-Length": "0"}, [], status=302) as url:
        words = refused(settings(source="url", url=url, sha256=pinned("", TEXT)["sha256"]))
    assert "cannot fetch http://127.0.0.1" in words


def test_a_mirror_that_sends_to_another_host_is_followed_and_the_digest_decides(hub: Hub) -> None:
    there = hub.endpoint.replace("127.0.0.1", "localhost") + "/plain/text.txt"
    with mirror({"Location": there, "Content-Length": "0"}, [], status=302) as url:
        pin = pinned("", TEXT)["sha256"]
        assert TEXT in run(settings(source="url", url=url, sha256=pin)).values()
        shutil.rmtree("data")
        assert "is not the" in refused(settings(source="url", url=url, sha256="0" * 64))


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        ({}, ENDLESS, f"sends more than the {len(TEXT)} bytes that data.hub pins; removed"),
        ({"Content-Length": "abc"}, ENDLESS, "stories.txt"),
        ({"Content-Encoding": "gzip"}, PACKED, f"sends more than the {len(TEXT)} bytes"),
        ({"Content-Encoding": "gzip"}, [gzip.compress(TEXT[:-1] + b"x")], "is not the"),
    ],
)
def test_a_hub_that_sends_something_else_is_one_line_and_bounded(
    hub: Hub, headers: dict[str, str], body: list[bytes], words: str
) -> None:
    hub.instead = headers, body
    assert words in refused(of_hub())
    assert sum(parts()) <= len(TEXT)


def test_a_hub_that_begins_anew_for_ever_is_given_up(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def anew(url: str, out: Any, **options: Any) -> None:
        while True:
            out.seek(0)
            out.truncate()
            out.write(TEXT[:-1])

    monkeypatch.setattr(transfer, "http_get", anew)
    assert "sends the same bytes again and again, and never all" in refused(of_hub())


def test_local_text_keeps_its_order_for_a_file_a_folder_and_a_glob() -> None:
    for name in ("b/same.txt", "a/same.txt", "a/deep/z.txt", "c.txt", "a/no.md"):
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Path("in", name).write_text(name)
    expected = {
        "in/c.txt": ["c.txt"],
        "in": ["a/deep/z.txt", "a/same.txt", "b/same.txt", "c.txt"],
        "in/**/same.txt": ["a/same.txt", "b/same.txt"],
        "in/a/no.*": ["a/no.md"],
    }
    for path, names in expected.items():
        found = run(settings(source="local", path=path))
        manifest = json.loads(found.pop("manifest.json"))
        assert [found[place].decode() for place in sorted(found)] == names
        assert manifest["path"] == path
        assert str(Path.cwd()) not in json.dumps(manifest)


def test_a_relative_path_starts_at_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.txt").write_text("A story.")
    Path("copy").mkdir()
    monkeypatch.chdir("copy")  # as under `dvc exp run --temp`, where DVC_ROOT is the repository
    assert run(settings(source="local", path="mine.txt"))["text/000000-mine.txt"] == b"A story."


def test_local_text_that_cannot_be_used_is_one_line() -> None:
    Path("empty.txt").touch()
    Path("blank.txt").write_text(" \n")
    Path("folder").mkdir()
    problems = {
        "none.txt": "none.txt does not exist",
        "folder": "folder has no text",
        "*.csv": "has no text",
        "empty.txt": "empty.txt is empty",
        "blank.txt": "blank.txt holds white space and delimiters only",
    }
    for path, problem in problems.items():
        assert problem in refused(settings(source="local", path=path))


def laid_out(**files: bytes) -> None:
    for name, content in files.items():
        path = Path("in", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("path", ["in", "in/**/*"])
def test_what_counts_as_text_is_one_rule_and_what_is_left_out_is_counted(path: str) -> None:
    laid_out(
        **{
            "a.txt": b"A.",
            "B.TXT": b"\xef\xbb\xbfB.",
            "again.txt": b"A.",
            "blank.txt": b" \xc2\xa0\n<|endoftext|>\n<|endoftext|>",
            "._a.txt": b"\x00\x05",
            ".ipynb_checkpoints/a-checkpoint.txt": b"A.",
        }
    )
    Path("elsewhere").mkdir()
    Path("elsewhere/linked.txt").write_text("Linked.")
    Path("in/link").symlink_to(Path("elsewhere").absolute())
    Path("elsewhere/round").symlink_to(Path("in").absolute())
    if path == "in":
        laid_out(**{"c.txt.gz": b"\x1f\x8b\x08"})
    found = run(settings(source="local", path=path))
    manifest = json.loads(found.pop("manifest.json"))
    assert sorted(found.values()) == [b"A.", b"Linked.", b"\xef\xbb\xbfB."]
    left_out = {"empty": 1, "the same text": 1}
    if path == "in":
        left_out |= {"hidden": 2, "of other names": 1}
    assert manifest["left_out"] == left_out


@pytest.mark.parametrize("path", ["in", "in/**/*.txt", "in/a"])
def test_more_files_than_are_held_are_refused_by_their_number(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_texts, "MOST_FILES", 3)
    fourth = "b/3.txt" if path != "in/a" else "a/3.md"
    laid_out(**{f"a/{n}.txt": f"{n}.".encode() for n in range(3)}, **{fourth: b"3."})
    said = f"data.path: {path} holds more than 3 files: join them into fewer, with {END_OF_TEXT}"
    assert said in refused(settings(source="local", path=path))
    Path("in", fourth).unlink()
    assert len(run(settings(source="local", path=path))) == 3 + 1  # the manifest


@pytest.mark.parametrize(
    "path",
    [".", "..", "/", "/**/*.txt", "/usr", "/proc/self", "/usr/share", "/etc/ssl", "/etc/*",
     "/bin", "/tmp", "/tmp/**/*.txt", "link"],
)  # fmt: skip
def test_a_folder_of_more_than_text_is_refused(path: str) -> None:
    Path("link").symlink_to("/usr/share")
    assert "holds what belongs to" in refused(settings(source="local", path=path))


@pytest.mark.parametrize(
    "path",
    ["data/raw", "./data/raw/mine.txt", "x/../data/models/*.txt", "data", "data/**/*.txt", "**",
     "d*/r?w/text/*", "*/*/*.txt", "elsewhere/link", "elsewhere/link/a.txt", "elsewhere/up/**/*"],
)  # fmt: skip
def test_text_where_the_pipeline_deletes_it_is_refused_by_its_setting(path: str) -> None:
    Path("data/raw/text").mkdir(parents=True)
    Path("elsewhere").mkdir()
    Path("elsewhere/link").symlink_to(Path("data/raw/text").absolute())
    Path("elsewhere/up").symlink_to(Path("data").absolute())
    with pytest.raises(ValueError, match="an output of the pipeline, which replaces"):
        settings(source="local", path=path)


@pytest.mark.parametrize(
    "path", ["data/mine", "data/mine.txt", "data/*.txt", "data/mi*/*.txt", "*/mine/**/*.txt", "raw"]
)
def test_text_beside_what_the_pipeline_deletes_is_taken(path: str) -> None:
    assert settings(source="local", path=path).data.path == path


def test_a_file_that_no_fetch_brought_stays_and_is_refused() -> None:
    run(settings(stories=2))
    Path("data/raw/text/mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"text/mine\.txt was not fetched by the pipeline"):
        run(settings(stories=3))
    assert Path("data/raw/text/mine.txt").read_text() == "mine"
    Path("data/raw/text/mine.txt").unlink()
    assert run(settings(stories=3))["text/stories.txt"].count(END_OF_TEXT.encode()) == 3


def test_a_file_that_comes_while_the_stage_runs_stays_too() -> None:
    params = settings(stories=3)
    run(params)
    before = Path("data/raw/text/stories.txt").read_bytes()

    def meanwhile() -> None:
        Path("data/raw/mine.txt").write_text("mine")

    with pytest.raises(InputError, match=r"mine\.txt was not fetched"):
        fetch(params.data, params.tokenizer, 7, Path("data/raw"), meanwhile)
    assert Path("data/raw/mine.txt").read_text() == "mine"
    assert Path("data/raw/text/stories.txt").read_bytes() == before


def test_dvc_sees_what_was_fetched_and_nothing_of_somebodys(hub: Hub) -> None:
    """Or `dvc exp run` would delete it before the stage could refuse."""
    shutil.copy(ROOT / ".dvcignore", ".")
    names = {"text": ["0.txt", "notes~", "é\n.txt"], "vocabulary": VOCABULARY}
    for folder, files in names.items():
        Path(folder).mkdir()
        for name in files:
            Path(folder, name).write_text(f"A story of {name}")
    content = settings(source="local", path="text/*").model_dump()
    content["tokenizer"] |= {"vocabulary": "local", "path": "vocabulary"}
    dvc = DvcIgnoreFilter(LocalFileSystem(), str(Path.cwd()))
    for params in (settings(stories=2), of_hub(), of_url(hub), Params.model_validate(content)):
        fetched = run(params)
        assert [each for each in fetched if dvc.is_ignored_file(f"data/raw/{each}")] == []
    assert {"text/000001-notes~", "tokenizer/merges.txt"} < fetched.keys()
    for mine in ("mine.txt", "text/mine.txt", "text/0/000000-a.txt", "b/c.txt", "tokenizer/a.json"):
        assert dvc.is_ignored_file(f"data/raw/{mine}")


@pytest.mark.parametrize("deleted", [1, 2])
def test_a_fetch_killed_while_it_replaces_goes_on(
    monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    """At each file that is deleted: what is left is still known as fetched."""
    params = settings(stories=2)
    run(params)
    left, unlink = [deleted - 1], Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        unlink(path, missing_ok)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)
        run(params)
    assert len([file for file in Path("data/raw").rglob("*") if file.is_file()]) == 3 - deleted
    assert set(run(params)) == {"text/stories.txt", "manifest.json"}


@pytest.mark.parametrize("begins", sources.NO_TEXT, ids=str)
def test_a_file_of_another_kind_is_named(begins: bytes) -> None:
    Path("other.txt").write_bytes(begins + b"rest")
    words = refused(settings(source="local", path="other.txt"))
    assert words.endswith(f"other.txt {sources.NO_TEXT[begins]}")


def test_a_repository_below_a_system_folder_has_its_own_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ncn.sources.local_texts.NEVER", (str(Path.cwd().parent),))
    laid_out(**{"a.txt": b"A."})
    assert b"A." in run(settings(source="local", path="in")).values()
    assert b"A." in run(settings(source="local", path="in/*.txt")).values()


@pytest.mark.parametrize("before", [0, sources.CHUNK_BYTES + 2])
@pytest.mark.parametrize(
    ("content", "nul"),
    [("Ein Märchen.".encode("utf-16-le"), 1), ("A tale.".encode("utf-16-be"), 0), (b"a\0", 1)],
    ids=["little", "big", "tar"],
)
def test_a_file_with_a_nul_is_named(before: int, content: bytes, nul: int, hub: Hub) -> None:
    text = b"a" * before + content
    Path("other.txt").write_bytes(text)
    words = refused(settings(source="local", path="other.txt"))
    assert (
        f"other.txt has a NUL at byte {before + nul}, which no text has: if it is UTF-16" in words
    )
    hub.repositories = {("datasets", REPO, REVISION): {NAME: b"known\0text"}}
    assert b"known\0text" in run(of_hub(b"known\0text")).values()


def test_any_file_name_becomes_a_place() -> None:
    names = [
        b"x" * 250 + b".txt",
        b"caf\xe9.txt",
        b"two\nlines.txt",
        "日本".encode() * 40 + b".txt",
    ]
    Path("in").mkdir()
    for number, name in enumerate(names):
        with open(b"in/" + name, "w") as file:
            file.write(f"Text {number}.")
    found = run(settings(source="local", path="in"))
    assert len(json.loads(found.pop("manifest.json"))["files"]) == len(found) == len(names)


@pytest.mark.parametrize("before", [0, 3, sources.CHUNK_BYTES - 1, sources.CHUNK_BYTES + 2])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x82x", b"\xe2\x82"])
def test_text_that_is_not_utf8_is_named_with_its_byte(before: int, bad: bytes) -> None:
    Path("bad.txt").write_bytes(b"a" * before + bad)
    assert f"bad.txt is not UTF-8 at byte {before} (" in refused(
        settings(source="local", path="bad.txt")
    )


def test_a_character_cut_by_a_chunk_is_still_utf8() -> None:
    text = ("a" * (sources.CHUNK_BYTES - 1) + "€" * 10).encode()
    Path("good.txt").write_bytes(text)
    assert check_text(Path("good.txt"), "good.txt") == {
        "bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
    }


def test_a_local_vocabulary_comes_along_and_a_partial_one_is_refused() -> None:
    Path("vocabulary").mkdir()
    Path("vocabulary/vocab.json").write_bytes(VOCABULARY["vocab.json"])
    content = settings(stories=2).model_dump()
    content["tokenizer"] |= {"vocabulary": "local", "path": "vocabulary"}
    params = Params.model_validate(content)
    assert "tokenizer.path: vocabulary has no merges.txt" in refused(params)
    Path("vocabulary/merges.txt").write_bytes(VOCABULARY["merges.txt"])
    assert run(params)["tokenizer/merges.txt"] == VOCABULARY["merges.txt"]


def test_the_stage_runs_and_its_failure_is_one_line() -> None:
    command, environment = [sys.executable, "-m", "stages.download"], for_stage()
    params = PARAMS.read_text(encoding="utf-8")
    small = params.replace("stories: 8400", "stories: 5")
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    Path("params.yaml").write_text(small, encoding="utf-8")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 files,")
    assert Path("data/raw/text/stories.txt").exists()
    broken = small.replace("source: builtin", "source: local").replace(
        "  path:  ", "  path: no  ", 1
    )
    Path("params.yaml").write_text(broken, encoding="utf-8")
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: data.path: no does not exist")
    assert failed.stderr.count("\n") == 1


STORIES = "".join(f"Story {n}, é.\n{END_OF_TEXT}\n" for n in range(20_000)).encode()
FIRST = 3 * PIECE + 5


def of_first_bytes() -> Params:
    """The first bytes of a larger file, pinned by what they are."""
    file = pinned(NAME, STORIES[:FIRST]) | {"bytes": len(STORIES), "first_bytes": FIRST}
    return settings(
        source="tinystories-v2", hub={"repo": REPO, "revision": REVISION, "files": [file]}
    )


@pytest.mark.parametrize("fault", ["none", "breaks", "no ranges"])
def test_the_first_bytes_of_a_file_are_asked_for_and_no_more(hub: Hub, fault: str) -> None:
    hub.repositories = {("datasets", REPO, REVISION): {NAME: STORIES}}
    hub.cuts, hub.ranges = ([PIECE + 3] if fault == "breaks" else []), fault != "no ranges"
    got = run(of_first_bytes())
    text = got[f"text/000000-{NAME}"]
    assert STORIES.startswith(text)
    assert text.endswith(END_OF_TEXT.encode())
    assert END_OF_TEXT.encode() not in STORIES[len(text) : FIRST]
    (entry,) = json.loads(got["manifest.json"])["files"]
    assert (entry["bytes"], entry["of_first_bytes"]) == (len(text), FIRST)
    asked = hub.ranges_asked()
    assert asked[0] == f"bytes=0-{FIRST - 1}"
    assert len(asked) == (2 if fault == "breaks" else 1)
    assert all(each and each.endswith(f"-{FIRST - 1}") for each in asked)
    assert parts() == []


def test_first_bytes_whose_digest_nobody_knew_are_kept_until_it_is_pinned(hub: Hub) -> None:
    hub.repositories = {("datasets", REPO, REVISION): {NAME: b"x" + STORIES}}
    settings_now = of_first_bytes().model_dump()
    file = settings_now["data"]["hub"]["files"][0]
    file["bytes"] = len(STORIES) + 1
    with pytest.raises(InputError, match="they are kept, and not received again") as error:
        run(Params.model_validate(settings_now))
    asked = len(hub.ranges_asked())
    [file["sha256"]] = re.findall(r"bytes have sha256 ([0-9a-f]{64})", str(error.value))
    text = run(Params.model_validate(settings_now))[f"text/000000-{NAME}"]
    assert (b"x" + STORIES).startswith(text)
    assert len(hub.ranges_asked()) == asked
    assert parts() == []


def test_first_bytes_that_hold_no_story_are_refused(hub: Hub) -> None:
    hub.repositories = {("datasets", REPO, REVISION): {NAME: b"x" * len(STORIES)}}
    file = pinned(NAME, b"x" * 100) | {"bytes": len(STORIES), "first_bytes": 100}
    short = settings(
        source="tinystories-v2", hub={"repo": REPO, "revision": REVISION, "files": [file]}
    )
    assert "no <|endoftext|> in its first 100 bytes" in refused(short)


def test_what_has_no_room_is_not_begun_and_what_is_large_is_said(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    assert refused(of_hub()).endswith(
        "0.0 GB to download, 0.0 GB are free: free some, the same command goes on"
    )
    assert not hub.requests
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    monkeypatch.setattr(transfer, "SPOKEN_OF", len(TEXT) - 1)
    assert run(of_hub())
    assert "GB to download" in capsys.readouterr().err
