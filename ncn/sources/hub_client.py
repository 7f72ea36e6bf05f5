"""Of huggingface_hub, for data and for models alike: its address, and in words what it raises."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # of its HTTP client, whichever that is
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ncn.common.errors import InputError

__all__ = [
    "Asked",
    "HTTPError",
    "HfHubHTTPError",
    "OfflineModeIsEnabled",
    "check_environment",
    "hub_address",
    "problem",
    "try_later",
    "without_secrets",
]


TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # the first that is set counts, then the file
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def check_environment() -> None:
    """See that the variables that clients of the network read can be used.

    Raises:
        InputError: one cannot; names it.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise InputError(f"HF_ENDPOINT: it should begin with http:// or https://, not {endpoint!r}")
    try:
        host = urlsplit(endpoint).hostname
    except ValueError as error:
        raise InputError(f"HF_ENDPOINT: no address: {error}") from None
    if endpoint and not host:
        raise InputError(f"HF_ENDPOINT: a host is missing in {endpoint!r}")
    _check_token()
    for place in filter(None, os.environ.get("SSL_CERT_DIR", "").split(os.pathsep)):
        if not Path(place).is_dir():
            raise InputError(
                f"SSL_CERT_DIR: {place} is no folder that exists: correct it, or unset it"
            )
    for name in CERTIFICATES:
        if (file := os.environ.get(name)) and not Path(file).is_dir():
            try:
                ssl.create_default_context(cafile=file)
            except FileNotFoundError:
                raise InputError(
                    f"{name}: {file} does not exist: correct it, or unset it"
                ) from None
            except OSError as error:  # an SSLError among them
                reason = error.strerror or error
                raise InputError(f"{name}: {file} holds no PEM certificates ({reason})") from None


def _check_token() -> None:
    """See that the token has no character that a header cannot carry.

    In huggingface_hub's order; not by its get_token, which may ask the network for a newer one.
    """
    where, again = constants.HF_TOKEN_PATH, "`hf auth login` anew"
    if name := next((name for name in TOKENS if os.environ.get(name)), None):
        where, token, again = name, os.environ[name], "copy it anew"
    else:
        try:
            token = Path(where).read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"{where}: cannot be read ({error.strerror}): {again}") from None
    if bad := sorted({each for each in token if not each.isascii() or not each.isprintable()}):
        raise InputError(f"{where}: {bad[0]!r} is in no token: {again}")


def hub_address(endpoint: str | None = None) -> str:
    """The hub's address: as given, by HF_ENDPOINT now, or the public one.

    huggingface_hub reads HF_ENDPOINT once, when it is imported.

    Raises:
        InputError: as `check_environment`.
    """
    check_environment()
    return (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


@dataclass(frozen=True)
class Asked:
    """What was asked of a hub, in the asker's words.

    what: a file's address, or a repository. repo: OWNER/NAME or its page. revision: of it.
    check_repo, check_revision, check_files, check: what to look at where it is that, or anything.
    otherwise: what to do where no hub may be asked. kept: what a later try need not do again.
    """

    what: str
    repo: str
    revision: str
    check_repo: str
    check_revision: str
    check_files: str
    check: str
    otherwise: str
    kept: str = ""


def problem(error: BaseException, asked: Asked) -> str:
    """One line for what a call of huggingface_hub raised."""
    match error:
        case OfflineModeIsEnabled():
            return f"HF_HUB_OFFLINE is set, so {asked.what} is not reached: {asked.otherwise}"
        case GatedRepoError():  # a RepositoryNotFoundError, so it comes first
            return f"{asked.repo} is gated: accept its terms there and log in with `hf auth login`"
        case RepositoryNotFoundError():
            return (
                f"{asked.repo} does not exist, or is private (log in with `hf auth login`):"
                f" check {asked.check_repo}"
            )
        case RevisionNotFoundError():
            return f"{asked.repo} has no revision {asked.revision}: check {asked.check_revision}"
        case EntryNotFoundError():
            return (
                f"{asked.what} does not exist at revision {asked.revision}:"
                f" check {asked.check_files}"
            )
        case HfHubHTTPError():
            status = error.response.status_code
            advice = {
                401: "log in with `hf auth login`, or set HF_TOKEN to a token that may do this",
                403: f"your token may not do this: see {asked.repo}, or log in with another",
            }.get(status, f"check {asked.check}")
            if try_later(status):
                advice = f"try again later{asked.kept}"
            return f"{asked.what} answered {status} {error.response.reason_phrase}: {advice}"
    return f"{asked.what}: the hub cannot be reached ({type(error).__name__}): check the network"


def try_later(status: int) -> bool:
    """Whether a server may give later what it refuses now."""
    return status == 429 or status >= 500


def without_secrets(url: str) -> str:
    """An address for people: without a password, and without a query, which may be a signature."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
