"""What DVC's cache holds: a copy of what it recorded, wherever it is configured to be."""

from collections.abc import Iterable


def holds(digests: Iterable[str]) -> bool:
    """Whether the cache has every file and folder of these md5s, see `ncn.common.files`.

    Outside a DVC repository there is no cache: it holds nothing.
    """
    from dvc.exceptions import DvcException  # half a second, which few commands need to wait
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            return all(map(repo.cache.local.exists, digests))
    except DvcException:
        return False
