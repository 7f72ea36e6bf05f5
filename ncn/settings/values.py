"""What a setting may be: its types, and what is said of one that cannot be used."""

import re
from collections.abc import Mapping
from reprlib import Repr
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
)

from ncn.common.errors import InputError


def _number(value: object) -> object:
    """`dvc exp run -S` writes 1e-05, which YAML 1.1 readers hand over as text (dvc#8466)."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_number), Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(gt=0, lt=1)]
Count = Annotated[StrictInt, Field(ge=1)]


def _address(value: str) -> str:
    if not value.isprintable():  # some of which urlsplit would leave out without a word
        raise ValueError(f"it should be an address, not {value!r}")
    try:
        parts = urlsplit(value)
        host = (parts.hostname or "").encode("idna")  # as whoever looks it up will do
        usable = parts.scheme in ("http", "https") and host and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"it should be http:// or https:// with a host, not {value!r}")
    return value


# Of names that become file names. Around an arm's name a folder of states has up to 46 letters more
# (`tune-ARM-LR-SEED-KEY`), a file that is being written 21 (`.ARM-SEED.json.new`); git keeps the
# experiment of a study's size as `STUDY-SIZE.lock`. Encrypted home folders (eCryptfs) take 143.
LONGEST_NAME = 64


def name_length(value: str) -> str:
    """`value`, a name that becomes a file name.

    Raises:
        ValueError: it has more than `LONGEST_NAME` letters.
    """
    if len(value) > LONGEST_NAME:
        raise ValueError(
            f"a name of {len(value)} letters: at most {LONGEST_NAME} are allowed, as it becomes"
            " part of file names"
        )
    return value


Address = Annotated[StrictStr, AfterValidator(_address)]
Digest = Annotated[StrictStr, Field(pattern="^[0-9a-f]{64}$")]


LONGEST_MESSAGE = 600
LONGEST_SHOWN, LONGEST_KEY = 120, 300  # letters of a value in a message, and of a part of its key
SHOWN = Repr()
SHOWN.maxstring = SHOWN.maxother = SHOWN.maxlong = LONGEST_SHOWN


class Settings(BaseModel):
    """A section of params.yaml: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Settings)


def validated(kind: type[S], content: Mapping[str, Any], where: str) -> S:
    """`content` as settings.

    Raises:
        InputError: one line that names `where`, the key, the value and what is allowed.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: {_first_problem(kind, error)}") from None


def _first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    """The first problem of a validation error, in one line."""
    problem = error.errors(include_url=False)[0]
    parts = [str(part) for part in problem["loc"] if part != "[key]"]  # pydantic's, of a name
    key = ".".join(part if len(part) <= LONGEST_KEY else shown(part) for part in parts)
    of = f"{key}: " if key else ""  # none: the whole is wrong
    more = "" if error.error_count() == 1 else f" (and {error.error_count() - 1} more)"
    match problem["type"]:
        case "extra_forbidden":
            allowed = ", ".join(_fields_beside(kind, problem["loc"]))
            text = f"{of}unknown key; allowed are {allowed}"
        case "missing":
            text = f"{of}missing"
        case "value_error":
            message = problem["msg"].removeprefix("Value error, ")
            if len(message) > LONGEST_MESSAGE:  # it quotes a value; what is allowed stands last
                message = f"{message[:100]}...{message[100 - LONGEST_MESSAGE :]}"
            text = f"{of}{message}"
        case _:
            wanted = re.sub(" (after validation|or instance of).*", "", problem["msg"])
            text = f"{of}{wanted.replace('Input', 'it', 1)}, not {shown(problem['input'])}"
    return text + more


def shown(value: object) -> str:
    """A value as Python writes it, the middle left out where it is long."""
    text = SHOWN.repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 20]}...{text[-17:]}"


def _fields_beside(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed where the unknown key at `location` stands."""
    for part in location[:-1]:
        field = kind.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type):
            break
        if issubclass(field.annotation, BaseModel):
            kind = field.annotation
    return sorted(kind.model_fields)
