"""One optimiser step: everything between a batch of rows and the updated weights.

    loss = (1 / B) sum over the batch's B rows of (cross-entropy + homeostatic penalty)

is what a step descends, however the batch is cut into micro-batches and shared by processes. The
engine knows nothing of disks, logs or schedules: those are `ncn.training`'s.
"""

import copy
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

from ncn.common.errors import InputError
from ncn.corpus.conditions import Conditions
from ncn.layers import named_seed
from ncn.model import LanguageModel
from ncn.model.device import mixed_precision, require_compiler, resolve_precision
from ncn.model.inputs import AnyRows, split_rows
from ncn.model.language_model import RunBlock
from ncn.settings import Train
from ncn.training.optimizer import is_plastic, make_optimizer, plasticity, set_learning_rate
from ncn.training.processes import processes, share_of

# Where fp16 is no longer worth its name: after 16 halvings of the scale that torch starts with.
LEAST_LOSS_SCALE = 1.0


class StepResult(NamedTuple):
    """What one step saw, over its whole batch."""

    loss: float  # cross-entropy, nats a token
    penalty: float  # homeostatic, lambda included
    grad_norm: float  # before clipping; not finite where skipped
    loss_scale: float  # of fp16; 1 elsewhere
    skipped: bool  # fp16: the scaled gradient overflowed, so the weights stayed


class NonFiniteError(InputError):
    """A loss, penalty or gradient that is not finite: the weights are those before the step."""


MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # of AdamW, for each parameter


class Engine:
    """Trains `model`, one batch at a time.

    Made within `ncn.training.processes.process_group`, it shares each batch with the other ranks:
    with `sharding: none` each holds the whole model (DDP), with `fsdp` a part of every parameter.

    Args:
        model: initialised, on its device.
        train: the optimiser's settings.
        seed: of the dropout.

    Raises:
        InputError: this machine lacks the kernels or the compiler that `train` asks for.
    """

    def __init__(self, model: LanguageModel, train: Train, seed: int) -> None:
        model.use_kernels(train.kernels)
        self.model = model.train()
        self._sharding = None
        if dist.is_initialized() and train.sharding == "fsdp":
            from ncn.training import sharding  # here, since it takes more than a second to import

            self._sharding = sharding
        self._trained = copy.deepcopy(model) if self._sharding else model
        self.steps = 0  # taken so far
        self._train = train
        self._seed = seed
        self._device = next(model.parameters()).device
        self._compiled: dict[nn.Module, Any] = {}
        objective: Any = _Objective(self._trained, self._run_block)
        if train.compile:
            require_compiler(self._device)
        if train.compile and self._device.type == "cuda" and not dist.is_initialized():
            # Whole, and played back as CUDA graphs: to launch 900 kernels one by one takes longer
            # than to run them. 23 ms a step, 35 with blocks compiled (H200, published size).
            objective = torch.compile(objective, mode="reduce-overhead", dynamic=False)
        elif train.compile:  # a block each: one is compiled, the others are found to be alike
            self._compiled = {
                block: torch.compile(block, dynamic=False) for block in self._trained.blocks
            }
        self._objective = self._shared(objective)
        self._optimizer = make_optimizer(self._trained, train)
        half = resolve_precision(train.precision, self._device)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=half == "fp16")

    def step(self, rows: AnyRows, lr: float) -> StepResult:
        """One update from a batch: all its rows [micro_batch_size * grad_accum_steps, T + 1].

        Raises:
            NonFiniteError: loss or gradient are not finite.
            InputError: the batch cannot be shared equally by the processes.
        """
        self._optimizer.zero_grad()
        share = share_of(len(rows))
        starts = range(share.start, share.stop, self._train.micro_batch_size)
        losses = []
        for start in starts:
            micro = rows[start : min(start + self._train.micro_batch_size, share.stop)]
            self._seed_dropout(start)
            with self._gradients_shared(start == starts[-1]):
                losses.append(self._backward(micro, len(micro) * processes() / len(rows)))
        loss, penalty, *by_layer = self._mean_over_ranks(torch.stack(losses).sum(0))
        self._scaler.unscale_(self._optimizer)
        grad_norm = self._clipped()
        loss_scale = self._scaler.get_scale()
        skipped = self._scaler.is_enabled() and not math.isfinite(grad_norm)
        self._check(loss, penalty, grad_norm, loss_scale, skipped)
        set_learning_rate(self._optimizer, lr, by_layer)
        self._scaler.step(self._optimizer)  # which leaves the weights where `skipped`
        self._scaler.update()
        self.steps += 1
        return StepResult(loss, penalty, grad_norm, loss_scale, skipped)

    def _backward(self, rows: AnyRows, share: float) -> Tensor:
        """Add the gradient of `share` of a micro-batch's loss.

        Returns that share, the penalty's and, if asked for, the plasticity's of each layer,
        [2] or [2 + L].
        """
        tokens, targets, conditions = split_rows(rows, self._device)
        with mixed_precision(self._device, self._train.precision):
            cross_entropy, penalty = self._objective(tokens, targets, conditions)
        self._scaler.scale((cross_entropy + penalty) * share).backward()
        seen = torch.stack([cross_entropy.detach(), penalty.detach()]).double()
        if is_plastic(self.model):
            seen = torch.cat([seen, plasticity(self.model, tokens, conditions)])
        return seen * share

    def _check(
        self, loss: float, penalty: float, grad_norm: float, loss_scale: float, skipped: bool
    ) -> None:
        if not math.isfinite(loss + penalty) or not (skipped or math.isfinite(grad_norm)):
            raise NonFiniteError(
                f"step {self.steps + 1}: loss {loss}, penalty {penalty}, gradient norm {grad_norm}"
                " must be finite; try a smaller train.lr, more train.warmup_steps or"
                " train.precision: fp32"
            )
        if skipped and loss_scale <= LEAST_LOSS_SCALE:
            raise NonFiniteError(
                f"step {self.steps + 1}: gradients overflow fp16 even at a loss scale of"
                f" {loss_scale:g}; try train.precision: bf16 or fp32, or a smaller train.lr"
            )

    def _run_block(self, block: nn.Module, *inputs: Any, **signals: Any) -> Any:
        """One layer's forward pass, compiled and recomputed in the backward pass as set."""
        call = self._compiled.get(block, block)
        if self._train.checkpointing:
            return checkpoint(call, *inputs, use_reentrant=False, **signals)
        return call(*inputs, **signals)

    def _seed_dropout(self, start: int) -> None:
        """Give the micro-batch at row `start` of the next step a stream of its own.

        Named, not continued: it needs no state to resume, and masks do not depend on which rank
        computes a micro-batch. They do where processes have to cut one in parts.
        """
        torch.manual_seed(named_seed(self._seed, self.steps, start))

    # Several processes

    def _shared(self, objective: nn.Module) -> nn.Module:
        """The objective whose gradient is the mean over all ranks."""
        if not dist.is_initialized():
            return objective
        if self._sharding:
            self._sharding.shard(objective, self._trained.blocks)
            return objective
        # The loss never reaches some parameters of a control network: the key bias of the pooling.
        unused = self.model.control is not None
        return DistributedDataParallel(objective, find_unused_parameters=unused)

    def _gradients_shared(self, now: bool) -> AbstractContextManager[None]:
        """Average the gradients over the ranks in the last backward pass of a step only.

        FSDP averages in each: keeping whole gradients would undo what it saves.
        """
        if isinstance(self._objective, DistributedDataParallel) and not now:
            return self._objective.no_sync()
        return nullcontext()

    def _mean_over_ranks(self, values: Tensor) -> list[float]:
        if processes() > 1:
            dist.all_reduce(values)
        return (values / processes()).tolist()

    def _clipped(self) -> float:
        """Clip the gradients; their norm before."""
        norm = clip_grad_norm_(self._trained.parameters(), self._train.grad_clip)
        if self._sharding:
            norm = self._sharding.gathered(norm)
        return norm.item()

    # State

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain numbers, `weights_only` loads it.

        Whole tensors by parameter name, however many processes hold them: a state may be loaded
        with another number of them. To be called by every rank.
        """
        return {
            "steps": self.steps,
            "model": self._weights(),
            "optimizer": self._moments(),
            "scaler": self._scaler.state_dict(),
        }

    def _weights(self) -> dict[str, Any]:
        if self._sharding:
            return self._sharding.whole_weights(self._trained)
        return self.model.state_dict()

    def _moments(self) -> dict[str, Any]:
        """The optimiser's state, by parameter name; a parameter that no loss reaches has none."""
        if self._sharding:
            return self._sharding.whole_moments(self._trained, self._optimizer)
        names: dict[Tensor, str] = {each: name for name, each in self.model.named_parameters()}
        return {
            "state": {names[each]: moments for each, moments in self._optimizer.state.items()},
            "param_groups": [
                group | {"params": [names[each] for each in group["params"]]}
                for group in self._optimizer.param_groups
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned, the same on every rank.

        Raises:
            ValueError: steps or moments are not what `state_dict` returns; or what torch raises.
        """
        if not isinstance(steps := state["steps"], int) or steps < 0:
            raise ValueError(f"steps are {steps!r}")
        self.steps = steps
        if self._sharding:
            self._sharding.load(self._trained, self._optimizer, state["model"], state["optimizer"])
        else:
            self.model.load_state_dict(state["model"])
            parameters = dict(self.model.named_parameters())
            for name, moments in state["optimizer"]["state"].items():
                shape = parameters[name].shape
                if set(moments) != MOMENTS or any(
                    value.shape not in ((), shape) for value in moments.values()
                ):
                    raise ValueError(f"the moments of {name} are not those of such a tensor")
                # Copied: the optimiser would change them in place.
                self._optimizer.state[parameters[name]] = {
                    key: value.to(self._device, copy=True) for key, value in moments.items()
                }
        self._scaler.load_state_dict(state["scaler"])

    def whole_model(self) -> LanguageModel:
        """`model` with the weights as they are now, to score or save: with `fsdp` it lags behind.

        To be called by every rank.
        """
        if self._sharding:
            self.model.load_state_dict(self._weights())
        return self.model


class _Objective(nn.Module):
    """`LanguageModel.loss` as a module's forward pass, which is what DDP and FSDP attend to."""

    def __init__(self, model: LanguageModel, run_block: RunBlock) -> None:
        super().__init__()
        self.model = model
        self._run_block = run_block

    def forward(
        self, tokens: Tensor, targets: Tensor, conditions: Conditions
    ) -> tuple[Tensor, Tensor]:
        return self.model.loss(tokens, targets, conditions, self._run_block)
