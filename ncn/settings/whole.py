"""All of params.yaml: the sections together, and what an arm makes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, Field, StrictInt, StrictStr, model_validator

from ncn.common.errors import InputError
from ncn.settings.analyses import (
    Adapt,
    BrainScan,
    Compare,
    Conditional,
    Convergence,
    Eval,
    Generate,
    Robustness,
)
from ncn.settings.control import ControlSettings
from ncn.settings.data import Data, Split, Text, Tokenizer
from ncn.settings.model import Baseline, Model, check_heads, check_routing
from ncn.settings.parameters import check_part
from ncn.settings.sizes import Size, SizeName, laid_over, of_its_size
from ncn.settings.train import Saving, Train, Tune
from ncn.settings.values import Settings, name_length, validated
from ncn.settings.yaml12 import read_yaml

S = TypeVar("S", bound=Settings)

# No arm: charts draw the series that the published run logged under this name.
PUBLISHED_SERIES = "published"

BASELINE = "baseline"  # the arm that every other is compared with
UNSEEN_BY_DVC = {"size", "nfiles"}  # keys that are no part of what its run-cache knows a run by
PLAIN = "plain"  # what the benchmark calls a baseline that is not widened

# Arm names become file names, stage names and chart labels.
ArmName = Annotated[
    StrictStr, Field(pattern="^[A-Za-z][A-Za-z0-9_]*$"), AfterValidator(name_length)
]

# What an arm may change: any setting of these two sections, the rival of the control network, and
# of training what may suit one form of model better than another.
ARM_TRAINING = ("lr", "decay", "weight_decay")
ARM_MODEL = ("modulator", "experts", "experts_per_token", "task_tokens")
ARM_SETTINGS = {
    *ControlSettings.model_fields, *Baseline.model_fields, *ARM_MODEL, *ARM_TRAINING
}  # fmt: skip


class Params(Settings):
    """All of params.yaml."""

    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)]
    data: Data
    tokenizer: Tokenizer
    text: Text
    split: Split
    model: Model
    ncn: ControlSettings
    baseline: Baseline
    at_size: SizeName | None
    sizes: dict[SizeName, Size]
    arms: dict[ArmName, dict[str, Any] | None] = Field(min_length=1)
    seeds: list[Annotated[StrictInt, Field(ge=0, lt=2**32)]] = Field(min_length=1)
    tune: Tune
    train: Train
    saving: Saving
    eval: Eval
    compare: Compare
    robustness: Robustness
    convergence: Convergence
    brain_scan: BrainScan
    conditional: Conditional
    generate: Generate
    adapt: Adapt

    @model_validator(mode="before")
    @classmethod
    def _of_its_size(cls, content: Any) -> Any:
        return of_its_size(content) if isinstance(content, Mapping) else content

    @model_validator(mode="after")
    def _every_arm_can_be_built(self) -> Self:
        if PUBLISHED_SERIES in self.arms:
            raise ValueError(
                f"arms.{PUBLISHED_SERIES}: this name is taken by the published run's series"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} name one seed twice")
        if taken := UNSEEN_BY_DVC & {*self.arms, *self.sizes}:
            raise ValueError(f"{min(taken)}: no arm and no size can have this name: DVC skips it")
        try:
            check_routing(self.model.experts, self.ncn)
        except ValueError as problem:
            raise ValueError(f"ncn: {problem}") from None
        for arm, changes in self.arms.items():
            if self.tune.lr and "lr" in (changes or {}):
                raise ValueError(
                    f"arms.{arm}.lr: tune.lr chooses every arm's; one of the two should go"
                )
            self.train_of(arm)
            self.model_of(arm)
            control = self.control_network(arm)
            plastic = control.controller != "none" and control.plasticity != "none"
            if plastic and self.train.sharding == "fsdp":
                raise ValueError(
                    f"arms.{arm}.plasticity: not with train.sharding fsdp, where no process has all"
                    " of a layer; allowed are plasticity none, or sharding none"
                )
            if not control.reads and (changes or {}).get("phasic") == "layer":
                raise ValueError(
                    f"arms.{arm}.phasic: layer, but a controller that is {control.controller} reads"
                    " no input; allowed is embedding"
                )
            try:
                check_heads(self.model.d_model, control)
                check_routing(self.model_of(arm).experts, control)
            except ValueError as problem:
                raise ValueError(f"arms.{arm}: {problem}") from None
        return self

    @model_validator(mode="after")
    def _what_is_tuned_is_scored_on_a_part_of_its_own(self) -> Self:
        if self.tune.on and not self.split.tuning:
            raise ValueError(
                "split.tuning: tune.lr has several values, so it should be above 0: the share of"
                " the text that they are scored on"
            )
        return self

    @model_validator(mode="after")
    def _runs_of_tokens_fit_in_a_row(self) -> Self:
        if self.robustness.ngram > self.model.context_length:
            raise ValueError(
                f"robustness.ngram: {self.robustness.ngram} tokens are more than a row has; allowed"
                f" are 2 to model.context_length, {self.model.context_length}"
            )
        return self

    @model_validator(mode="after")
    def _what_is_compared_is_an_arm(self) -> Self:
        others = [arm for arm in self.arms if arm != BASELINE]
        for key in ("primary", "reference"):
            arm = getattr(self.compare, key)
            if arm is not None and arm not in others:
                raise ValueError(
                    f"compare.{key}: {arm!r} is no arm beside {BASELINE}; allowed are null and"
                    f" {', '.join(others)}"
                    if others
                    else f"compare.{key}: there is no arm beside {BASELINE}; it should be null"
                )
        return self

    @model_validator(mode="after")
    def _what_is_adapted_is_an_arm(self) -> Self:
        for arm in self.adapt.start_from:
            if arm not in self.arms:
                raise ValueError(
                    f"adapt.start_from: {arm!r} is no arm; allowed are {', '.join(self.arms)}"
                )
        if self.adapt.text.source == "dialogue" and self.text.dialogue == "any":
            raise ValueError(
                "adapt.text.source: dialogue, but text.dialogue: any leaves no story for a second"
                " text; allowed are text.dialogue without or with, or source dialect"
            )
        if self.adapted_control.controller == "none":
            raise ValueError("adapt.control: controller: it should be 'network' or 'static'")
        try:
            check_heads(self.model.d_model, self.adapted_control)
        except ValueError as problem:
            raise ValueError(f"adapt.control: {problem}") from None
        return self

    @model_validator(mode="after")
    def _every_factor_names_parameters(self) -> Self:
        for part in self.train.lr_scale:
            try:
                check_part(part, self.model.n_layers)
            except ValueError as problem:
                raise ValueError(f"train.lr_scale.{part}: {problem}") from None
        return self

    def control_network(self, arm: str) -> ControlSettings:
        """The `ncn` section with what `arm` changes laid over it."""
        return self._overlaid(arm, self.ncn)

    @property
    def adapted_control(self) -> ControlSettings:
        """The `ncn` section with `adapt.control` laid over it."""
        return validated(
            ControlSettings, self.ncn.model_dump() | self.adapt.control, "adapt.control"
        )

    def baseline_of(self, arm: str) -> Baseline:
        """The `baseline` section with what `arm` changes laid over it."""
        return self._overlaid(arm, self.baseline)

    def model_of(self, arm: str) -> Model:
        """The `model` section with the rival of the control network that `arm` names."""
        return self._overlaid(arm, self.model)

    def train_of(self, arm: str) -> Train:
        """The `train` section with what `arm` changes laid over it."""
        return self._overlaid(arm, self.train)

    def _overlaid(self, arm: str, section: S) -> S:
        if arm not in self.arms:
            raise InputError(f"arm {arm!r} is not in params.yaml; its arms are {list(self.arms)}")
        changes = self.arms[arm] or {}
        if unknown := set(changes) - ARM_SETTINGS:
            raise InputError(
                f"arms.{arm}.{min(unknown)}: unknown key; allowed are {sorted(ARM_SETTINGS)}"
            )
        return validated(type(section), laid_over(section, changes), f"arms.{arm}")


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: one line that names the file, the key, the value and what is allowed.
    """
    return validated(Params, read_yaml(path), str(path))
