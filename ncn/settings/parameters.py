"""The parameters of a model by name, as settings speak of them.

A part of a model is the start of a parameter's name, up to a dot or the end: `control`, `blocks.0`,
`control.output.bias`. In it, `*` stands for anything between two dots: `blocks.*.attention`.
"""

from fnmatch import fnmatchcase

# Of every form a model may have, whatever its arm: a test holds them to models as they are built.
OUTSIDE_BLOCKS = (
    "embedding.weight", "positions.weight", "task_tokens.weight",
    "control.bias",  # of a static arm
    "control.pooling.query",
    "control.pooling.q_proj.weight", "control.pooling.q_proj.bias",
    "control.pooling.k_proj.weight", "control.pooling.k_proj.bias",
    "control.pooling.v_proj.weight", "control.pooling.v_proj.bias",
    "control.pooling.out_proj.weight", "control.pooling.out_proj.bias",
    "control.norm.weight",
    "control.hidden.weight", "control.hidden.bias",
    "control.recurrence.forget.weight", "control.recurrence.forget.bias",
    "control.output.weight", "control.output.bias",
    "control.tasks.weight", "control.sliders.weight", "control.entropy_weight",
    "norm.weight",
)  # fmt: skip
IN_A_BLOCK = (
    "attention_norm.weight", "attention.qkv.weight", "attention.out.weight",
    "feed_forward_norm.weight",
    "feed_forward.up.weight", "feed_forward.up.bias",
    "feed_forward.down.weight", "feed_forward.down.bias",
    "modulator.gate.weight",  # gated_attention
    "modulator.attention.down.weight", "modulator.attention.up.weight",  # transponder
    "modulator.feed_forward.down.weight", "modulator.feed_forward.up.weight",
    "modulator.scale",  # rezero, layerscale, temperature
    "router.scores.weight",  # of a mixture of experts
    "film.attention.weight", "film.feed_forward.weight",  # of the signal norm_film
)  # fmt: skip


def parameter_names(n_layers: int) -> list[str]:
    """The name of every parameter that some arm's model of `n_layers` layers may have."""
    in_blocks = [f"blocks.{layer}.{name}" for layer in range(n_layers) for name in IN_A_BLOCK]
    return [*OUTSIDE_BLOCKS, *in_blocks]


def check_part(part: str, n_layers: int) -> None:
    """See that some arm's model has parameters in `part`.

    Raises:
        ValueError: none has; it says which word is wrong, and what it may be.
    """
    names = [name.split(".") for name in parameter_names(n_layers)]
    for place, word in enumerate(part.split(".")):
        names = [name for name in names if place < len(name)]
        allowed = dict.fromkeys(name[place] for name in names)
        names = [name for name in names if fnmatchcase(name[place], word)]
        if not names:
            known = f"allowed are {', '.join(allowed)}, *" if allowed else "nothing is below it"
            raise ValueError(f"no parameter is at {word!r}; {known}")
