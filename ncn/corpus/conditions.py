"""What the control network may be told beside the text (preprint 3.2): a task, and sliders.

Only the control network hears of it; the transformer reads the text alone, but for that of an arm
with task tokens (`ncn.model.language_model`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ncn.corpus.rows import Index


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is known of each of B texts before its first token. A batch of 1 holds for all rows.

    task: its number, [B] int64. None adds no task's vector.
    sliders: the values of `ncn.sliders` [B, n], in standard deviations from the training mean.
        None is neutral: all 0.
    """

    task: Tensor | None = None
    sliders: Tensor | None = None

    def take(self, rows: Index) -> "Conditions":
        """Those of some rows."""
        return Conditions(
            None if self.task is None else self.task[rows],
            None if self.sliders is None else self.sliders[rows],
        )

    def to(self, device: torch.device) -> "Conditions":
        """The same on another device."""
        return Conditions(
            None if self.task is None else self.task.to(device),
            None if self.sliders is None else self.sliders.to(device),
        )


NO_CONDITIONS = Conditions()
