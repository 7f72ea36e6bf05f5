"""Conditional compute: a branch is left out of a token where the control network all but closes it.

The preprint calls this dynamic sparsity. With the scales a of a layer (`ncn.model.blocks`), token t
has the weights

    w_feed_forward = a_layer a_feed_forward                       gate times gain
    w_layer        = a_layer max(a_attention, a_feed_forward)

and what weighs less than eps is left out of it: the feed-forward, or (form `layer`) the whole layer
but for its keys and values, which later tokens attend to. That is the model with this branch times
0, computed in less: the tokens that keep it are gathered, go through it, and are put back.

A scale that a layer lacks is 1; of one number a head, the largest counts. What a rival scales
(`ncn.model.rivals`) is no part of the weight. A product of fewer rows may round otherwise than one
of all, so logits are those of the branch times 0 up to rounding; where nothing is left out the
layer is computed as ever, to the last bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ncn.common.errors import InputError
from ncn.model.blocks import Block, KeyValues, scales_at
from ncn.settings import ModelConfig
from ncn.signals import Site

Form = Literal["feed_forward", "layer"]
FORMS: tuple[Form, ...] = get_args(Form)


def weights(signals: Mapping[str, Tensor], form: Form) -> Tensor:
    """w of the equations above from signals [B, T] or [B, T, L], wider ones [..., W]: as narrow."""
    layer = _scale("layer", signals)
    feed_forward = _scale("feed_forward", signals)
    if form == "feed_forward":
        return layer * feed_forward
    return layer * torch.maximum(_scale("attention", signals), feed_forward)


def _scale(site: Site, signals: Mapping[str, Tensor]) -> Tensor:
    """The product of what scales a site, the largest of several numbers; 1 where nothing does."""
    product = torch.ones(())
    for width, scale in scales_at(site, signals).items():
        product = product * (scale if width == "layer" else scale.amax(-1))
    return product


@dataclass(frozen=True)
class Skip:
    """Which branches are left out: calls a block without them (`ncn.model.language_model`).

    below: eps. form: what is left out.
    """

    below: float
    form: Form = "feed_forward"

    def keeps(self, attention: float, feed_forward: float) -> tuple[bool, bool]:
        """Whether attention and the feed-forward are computed, of a token that they so scale."""
        if self.form == "feed_forward":
            return True, feed_forward >= self.below
        whole = max(attention, feed_forward) >= self.below
        return whole, whole

    def __call__(
        self,
        block: nn.Module,
        x: Tensor,
        past: KeyValues | None = None,
        measure: bool = False,
        **signals: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """What the block makes of x [B, T, D] without the branches that are left out."""
        assert isinstance(block, Block)
        keep = (weights(signals, self.form) >= self.below).expand(x.shape[:2])
        if keep.all():
            out: tuple[Tensor, Tensor | None] = block(x, past=past, measure=measure, **signals)
            return out
        if self.form == "feed_forward":
            attended, entropy = block.attended(x, signals, past, measure)
            return block.gated(x, _fed(block, attended, signals, keep), signals), entropy
        longest = max(1, int(keep.sum(1).max()))  # attention takes no empty queries
        asking = keep.int().argsort(dim=1, descending=True, stable=True)[:, :longest]  # [B, n]
        asked, _ = block.attended(x, signals, past, asking=asking)
        # Shorter rows are padded with positions that are left out: they keep x.
        wanted = keep.gather(1, asking)[..., None]
        places = asking[..., None].expand(asked.shape)
        asked = torch.where(wanted, asked, x.gather(1, places))
        attended = x.scatter(1, places, asked)
        return block.gated(x, _fed(block, attended, signals, keep), signals), None


def _fed(block: Block, x: Tensor, signals: Mapping[str, Tensor], keep: Tensor) -> Tensor:
    """x [B, T, D] with the feed-forward added at the tokens of keep [B, T]."""
    chosen = keep.flatten().nonzero()[:, 0]  # [n]
    if not len(chosen):
        return x
    rows = x.flatten(0, 1)  # [B T, D]
    theirs = {name: each.flatten(0, 1)[chosen][None] for name, each in signals.items()}
    fed = block.fed(rows[chosen][None], theirs)[0]
    return rows.index_copy(0, chosen, fed).view(x.shape)


def refuse_skipping(config: ModelConfig, form: Form, name: str) -> None:
    """Raise InputError, a line that names the model, where nothing says what may be left out."""
    control = config.control
    if control is None or control.controller == "none":
        raise InputError(f"{name}: no control network, so no gate says what can be skipped")
    if form == "layer" and control.attention_entropy:
        raise InputError(
            f"{name}: its signals need the attention of every token (ncn.attention_entropy), so no"
            " layer can be skipped; a feed_forward can"
        )
