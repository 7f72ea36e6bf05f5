"""Of huggingface_hub, for data and for models alike: its address, and in words what it raises."""

import os
from dataclasses import dataclass

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

__all__ = [
    "Asked",
    "HTTPError",
    "HfHubHTTPError",
    "OfflineModeIsEnabled",
    "hub_address",
    "problem",
    "try_later",
]


def hub_address(endpoint: str | None = None) -> str:
    """The hub's address: as given, by HF_ENDPOINT now, or the public one.

    huggingface_hub reads HF_ENDPOINT once, when it is imported.
    """
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
