"""What DVC's cache holds: a copy of what it recorded, wherever it is configured to be."""

from collections.abc import Iterable


def why_unknown() -> str | None:
    """Why DVC cannot say what its cache holds, in its words; None: it can."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo("."):
            return None
    except DvcException as error:
        return " ".join(str(error).split())


def holds(digests: Iterable[str]) -> bool:
    """Whether the cache has every file and folder of these md5s, see `ncn.common.files`.

    Outside a DVC repository, or without DVC, there is no cache: it holds nothing.
    """
    try:
        from dvc.exceptions import DvcException  # half a second, which few commands need to wait
        from dvc.repo import Repo
    except ImportError:
        return False

    try:
        with Repo(".") as repo:
            return all(map(repo.cache.local.exists, digests))
    except DvcException:
        return False
