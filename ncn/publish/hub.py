"""Models on a hub: published with a card, and fetched.

A repository holds model.safetensors, config.json, the tokenizer's vocab.json and merges.txt, a
model card, and what the transformers library needs to load it. Loading with this project executes
nothing. Log in with `hf auth login`, or set HF_TOKEN.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from ncn.common.errors import InputError
from ncn.common.files import write_text
from ncn.model import LanguageModel, load_model
from ncn.model.checkpoint import CONFIG, WEIGHTS
from ncn.publish.model_card import model_card
from ncn.publish.repository import TOKENIZER_FILES, write_repository
from ncn.sources.hub_client import Asked, HTTPError, OfflineModeIsEnabled, hub_address, problem

# What the hub's client raises where it is answered something else than a hub answers.
NO_ANSWER = (
    AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def from_pretrained(
    repo_or_directory: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> LanguageModel:
    """The model of a directory or a hub repository, on the CPU, in evaluation mode.

    See `fetch_model` for the arguments.

    Raises:
        InputError: there is no such model, it cannot be reached, or its files do not fit.
    """
    return load_model(
        fetch_model(repo_or_directory, revision=revision, token=token, endpoint=endpoint)
    )


def fetch_model(
    repo_or_directory: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    others: Sequence[str] = (),
) -> Path:
    """The directory that holds a model and its tokenizer, downloaded where it is a repository.

    Args:
        repo_or_directory: a directory that exists, or OWNER/NAME.
        revision: a branch, tag or commit; the main branch where not given.
        token: of the hub; what `hf auth login` saved where not given.
        endpoint: the hub's address; HF_ENDPOINT, or the public hub, where not given.
        others: the files, as patterns, of which a model of another project may consist; without
            them there has to be one of this project.

    Raises:
        InputError: there is no such repository or revision, it holds no model, or the hub does
            not answer and the cache does not hold it.
    """
    if Path(repo_or_directory).is_dir():
        if revision is not None:
            raise InputError(f"{repo_or_directory} is a directory: it has no revision {revision}")
        return Path(repo_or_directory)
    repo = str(repo_or_directory)
    with _explained(repo, revision):
        directory = Path(
            snapshot_download(
                repo,
                revision=revision,
                token=token,
                endpoint=hub_address(endpoint),
                allow_patterns=[CONFIG, WEIGHTS, *TOKENIZER_FILES, *others],
            )
        )
    needed = (CONFIG,) if others else (CONFIG, WEIGHTS)  # of another project, it may be in parts
    if missing := [name for name in needed if not (directory / name).exists()]:
        raise InputError(f"{repo} has no {missing[0]}: it holds no model of this project")
    return directory


def push_to_hub(
    model: LanguageModel,
    repo: str,
    *,
    run: str | None = None,
    tokenizer: str | Path | None = None,
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
    message: str = "Model and model card",
) -> str:
    """Publish a model in one commit; returns the commit's address.

    Args:
        model: its weights and configuration.
        repo: OWNER/NAME; made where it does not exist.
        run: whose figures (metrics/) the model card tells: ARM-SEED.
        tokenizer: a directory with vocab.json and merges.txt, to go along.
        private: refuse to publish where others can read.
        token: of the hub; what `hf auth login` saved where not given.
        endpoint: the hub's address; HF_ENDPOINT, or the public hub, where not given.
        message: of the commit.

    Raises:
        InputError: the tokenizer or the figures are of another model, `private` was asked for and
            the repository is public, or the hub refuses or cannot be reached.
    """
    card = model_card(model, repo, run)
    with tempfile.TemporaryDirectory() as scratch:
        write_repository(model, Path(scratch), tokenizer)
        write_text(Path(scratch) / "README.md", card)
        files = [CommitOperationAdd(path.name, path) for path in sorted(Path(scratch).iterdir())]
        with _explained(repo, None):
            api = HfApi(endpoint=hub_address(endpoint), token=token)
            # A name without an owner is the token's owner's.
            repo = api.create_repo(repo, private=private or None, exist_ok=True).repo_id
            if private and not api.model_info(repo).private:
                raise InputError(
                    f"{repo} exists and is public: make it private first, or name another"
                )
            commit = api.create_commit(repo, files, commit_message=message)
    return commit.commit_url


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """Turn what the hub's client raises into one line that says what to do."""
    try:
        yield
    except InputError:
        raise
    except HFValidationError:
        raise InputError(
            f"{repo!r} is no directory and no repository of a hub (OWNER/NAME)"
        ) from None
    except LocalEntryNotFoundError as error:  # neither the hub nor the cache has it
        raise InputError(problem(error.__cause__ or error, _asked(repo, revision))) from None
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise InputError(problem(error, _asked(repo, revision))) from None
    except NO_ANSWER as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise InputError(f"{repo}: what answers is no hub ({why}): check HF_ENDPOINT") from error


def _asked(repo: str, revision: str | None) -> Asked:
    """What is asked of the hub, by the arguments that name it."""
    return Asked(
        what=repo,
        repo=repo,
        revision=revision or "main",
        check_repo="the name",
        check_revision="the name of the revision",
        check_files="what it holds",
        check="the name",
        otherwise="unset it",
    )
