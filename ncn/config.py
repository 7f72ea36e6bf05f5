"""The settings of params.yaml: typed, frozen, and checked once, when a stage starts.

A setting that cannot be used ends with one line that names its key, its value and what is
allowed. Cross-checks live beside the setting they protect.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ncn.errors import InputError

SIGNALS = ("gain", "precision", "ffn_gate")
MAX_VOCABULARY = 65_536  # tokens are stored as uint16
MAX_TASKS = 65_536  # and so are the task labels
END_OF_TEXT = "<|endoftext|>"  # after each story, in text files and as a token

Salience = Literal["global", "causal", "reactive", "none"]
Slider = Literal["dialogue", "token_bytes"]


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
    try:
        parts = urlsplit(value)
        host = (parts.hostname or "").encode("idna")  # as whoever looks it up will do
        usable = parts.scheme in ("http", "https") and host and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"it should be http:// or https:// with a host, not {value!r}")
    return value


Address = Annotated[StrictStr, AfterValidator(_address)]
Digest = Annotated[StrictStr, Field(pattern="^[0-9a-f]{64}$")]
# Arm names become file names, stage names and chart labels.
ArmName = Annotated[StrictStr, Field(pattern="^[A-Za-z][A-Za-z0-9_]*$")]


class Settings(BaseModel):
    """A section of params.yaml: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Settings)


class HubFile(Settings):
    """One file of a hub repository, pinned by size and digest."""

    name: StrictStr
    bytes: Count
    sha256: Digest


class Hub(Settings):
    """A hub repository at a pinned revision."""

    repo: StrictStr
    revision: StrictStr
    files: list[HubFile] = Field(min_length=1)


class Data(Settings):
    """Where the text comes from."""

    source: Literal["builtin", "tinystories-v2", "local", "url"]
    stories: Count
    path: StrictStr | None = None
    url: Address | None = None
    sha256: Digest | None = None
    hub: Hub

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> Self:
        if self.source == "local" and self.path is None:
            raise ValueError("source: local needs path: a file, a folder or a glob")
        if self.source == "url" and (self.url is None or self.sha256 is None):
            raise ValueError("source: url needs url (http or https) and sha256 (64 hex digits)")
        return self


class Tokenizer(Settings):
    """The vocabulary: trained on the training part, GPT-2's, or a local one in its format."""

    vocabulary: Literal["trained", "gpt2", "local"]
    vocab_size: Annotated[StrictInt, Field(ge=258, le=MAX_VOCABULARY)]
    path: StrictStr | None = None
    hub: Hub

    @model_validator(mode="after")
    def _local_has_a_path(self) -> Self:
        if self.vocabulary == "local" and self.path is None:
            raise ValueError("vocabulary: local needs path: a folder with vocab.json, merges.txt")
        return self


class Split(Settings):
    """How validation is kept apart from training."""

    unit: Literal["story", "sequence", "tail"]
    validation: Share


class Model(Settings):
    """The transformer that every arm shares."""

    d_model: Count
    n_layers: Count
    n_heads: Count
    d_ff: Count
    context_length: Annotated[StrictInt, Field(ge=2)]
    dropout: Annotated[Number, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}")
        return self


class ControlNetwork(Settings):
    """The control of an arm: a network, static scalars, or none (a plain transformer)."""

    controller: Literal["network", "static", "none"]
    hidden: Count
    heads: Count
    salience: Salience
    signals: list[Literal["gain", "precision", "ffn_gate"]] = Field(min_length=1)
    gain: Literal["2sigmoid", "shifted"]
    activation: Literal["tanh", "relu", "gelu"]
    init: Literal["identity", "zero"]
    frozen: StrictBool
    precision_max: Positive
    penalty: Literal["mean", "sum"]
    homeostatic_lambda: Annotated[Number, Field(ge=0)]
    # Further inputs. With defaults: a model saved before they were there has none of them.
    tasks: Annotated[StrictInt, Field(ge=0, le=MAX_TASKS)] = 0
    sliders: list[Slider] = []
    attention_entropy: StrictBool = False

    @model_validator(mode="after")
    def _lists_are_sets(self) -> Self:
        if len(set(self.signals)) < len(self.signals):
            raise ValueError(f"signals {self.signals} name one signal twice")
        if len(set(self.sliders)) < len(self.sliders):
            raise ValueError(f"sliders {self.sliders} name one slider twice")
        return self


class ModelConfig(Model):
    """All that rebuilds a model: the shape, the vocabulary and the control network, if any."""

    vocab_size: Count
    control: ControlNetwork | None = None


class Baseline(Settings):
    """How an arm without a control network makes up for the missing parameters."""

    match: Literal["parameters", "flops", "none"]
    multiple_of: Count


class Validation(Settings):
    """What is measured on the validation part while training goes on."""

    every: Count
    sequences: Count


class Train(Settings):
    """The optimiser and its schedule; steps are optimiser steps."""

    lr: Positive
    betas: Annotated[list[Annotated[Number, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    weight_decay: Annotated[Number, Field(ge=0)]
    decay: Literal["all", "matrices"]
    grad_clip: Positive
    schedule: Literal["cosine", "linear", "constant"]
    warmup_steps: Annotated[StrictInt, Field(ge=0)]
    micro_batch_size: Count
    grad_accum_steps: Count
    epochs: Positive
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    checkpointing: StrictBool
    compile: StrictBool
    processes: Count
    sharding: Literal["none", "fsdp"]
    kernels: Literal["auto", "reference", "chunked", "triton"]
    log_every: Count
    validation: Validation
    save_every_steps: Count
    save_every_minutes: Positive


class Eval(Settings):
    """Scoring on the validation part."""

    sequences: Count
    batch_size: Count
    bootstrap: Annotated[StrictInt, Field(ge=100)]
    equivalence: Positive
    leak_sequences: Count


class Convergence(Settings):
    """Windows of the convergence analysis (preprint 4.1.2 and 5.2)."""

    short_span: Share
    long_span: Share
    slope_share: Share
    smoothing_span: Annotated[StrictInt, Field(ge=2)]
    loss_targets: list[Positive]


class BrainScan(Settings):
    """On what the signals are read, and how many untrained networks they are compared with."""

    texts: list[Annotated[StrictStr, Field(min_length=1)]] = Field(min_length=1)
    sequences: Annotated[StrictInt, Field(ge=4)]
    initialisations: Annotated[StrictInt, Field(ge=2)]
    word: Annotated[StrictStr, Field(pattern=r"^\S+$")]


class Generate(Settings):
    """Sample texts, the same prompts for every run."""

    prompts: list[Annotated[StrictStr, Field(min_length=1)]] = Field(min_length=1)
    max_new_tokens: Count
    temperature: Annotated[Number, Field(ge=0)]
    top_k: Annotated[StrictInt, Field(ge=0)]
    top_p: Annotated[Number, Field(gt=0, le=1)]
    recall_sequences: Count


# What an arm may change: any setting of these two sections.
ARM_SETTINGS = {*ControlNetwork.model_fields, *Baseline.model_fields}


class Params(Settings):
    """All of params.yaml."""

    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)]
    data: Data
    tokenizer: Tokenizer
    split: Split
    model: Model
    ncn: ControlNetwork
    baseline: Baseline
    arms: dict[ArmName, dict[str, Any] | None] = Field(min_length=1)
    seeds: list[Annotated[StrictInt, Field(ge=0, lt=2**32)]] = Field(min_length=1)
    train: Train
    eval: Eval
    convergence: Convergence
    brain_scan: BrainScan
    generate: Generate

    @model_validator(mode="after")
    def _every_arm_can_be_built(self) -> Self:
        if "published" in self.arms:  # charts draw the published series under this name
            raise ValueError("arms.published: this name is taken by the published run's series")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} name one seed twice")
        for arm in self.arms:
            control = self.control_network(arm)
            if control.controller == "network" and self.model.d_model % control.heads:
                raise ValueError(
                    f"arms.{arm}: d_model {self.model.d_model} is not divisible by"
                    f" the heads {control.heads} of the salience pooling"
                )
        return self

    def control_network(self, arm: str) -> ControlNetwork:
        """The `ncn` section with what `arm` changes laid over it."""
        return self._overlaid(arm, self.ncn)

    def baseline_of(self, arm: str) -> Baseline:
        """The `baseline` section with what `arm` changes laid over it."""
        return self._overlaid(arm, self.baseline)

    def _overlaid(self, arm: str, section: S) -> S:
        if arm not in self.arms:
            raise InputError(f"arm {arm!r} is not in params.yaml; its arms are {list(self.arms)}")
        changes = self.arms[arm] or {}
        if unknown := set(changes) - ARM_SETTINGS:
            raise InputError(
                f"arms.{arm}.{min(unknown)}: unknown key; allowed are {sorted(ARM_SETTINGS)}"
            )
        mine = {key: value for key, value in changes.items() if key in type(section).model_fields}
        return _validated(type(section), section.model_dump() | mine, f"arms.{arm}")


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: one line that names the file, the key, the value and what is allowed.
    """
    return _validated(Params, read_yaml(path), str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping. Duplicate keys are an error."""
    try:
        content = YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected sections (a mapping), found {type(content).__name__}")
    return content


def _validated(kind: type[S], content: Mapping[str, Any], where: str) -> S:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: {_first_problem(kind, error)}") from None


def _first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    """The first problem of a validation error, in one line."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"])
    more = "" if error.error_count() == 1 else f" (and {error.error_count() - 1} more)"
    match problem["type"]:
        case "extra_forbidden":
            allowed = ", ".join(_fields_beside(kind, problem["loc"]))
            text = f"{key}: unknown key; allowed are {allowed}"
        case "missing":
            text = f"{key}: missing"
        case "value_error":
            message = problem["msg"].removeprefix("Value error, ")
            text = f"{key}: {message}" if key else message
        case _:
            wanted = re.sub(" (after validation|or instance of).*", "", problem["msg"])
            text = f"{key}: {wanted.replace('Input', 'it', 1)}, not {problem['input']!r}"
    return text + more


def _fields_beside(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed where the unknown key at `location` stands."""
    for part in location[:-1]:
        field = kind.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type):
            break
        if issubclass(field.annotation, BaseModel):
            kind = field.annotation
    return sorted(kind.model_fields)
