"""The configuration of a model of this project, as the transformers library reads it."""

from typing import Any

from transformers import PretrainedConfig

# The smallest model that is one: transformers also makes configurations without arguments.
SMALLEST: dict[str, Any] = {
    "d_model": 2,
    "n_layers": 1,
    "n_heads": 1,
    "d_ff": 2,
    "context_length": 2,
    "dropout": 0.0,
    "vocab_size": 1,
    "control": None,
}


class NCNConfig(PretrainedConfig):
    """What rebuilds a model.

    ncn: the project's own configuration: the shape, the vocabulary, and the control network in
        `control`, which is None for a plain transformer.
    outputs: what the control network puts out for each layer, in its order: a signal's `name`, its
        `transformation`, the `width` in numbers, `per` (layer, head or vector), and the `sites`
        that it multiplies (queries, attention, feed_forward, layer, slope).
    """

    model_type = "ncn"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        ncn: dict[str, Any] | None = None,
        outputs: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.ncn: dict[str, Any] = ncn or SMALLEST
        self.outputs: list[dict[str, Any]] = outputs or []
        named = {  # by the names that transformers knows
            "vocab_size": self.ncn["vocab_size"],
            "hidden_size": self.ncn["d_model"],
            "num_hidden_layers": self.ncn["n_layers"],
            "num_attention_heads": self.ncn["n_heads"],
            "intermediate_size": self.ncn["d_ff"],
            "max_position_embeddings": self.ncn["context_length"],
            "tie_word_embeddings": False,  # the output head is the embedding, not a copy of it
        }
        super().__init__(**{**kwargs, **named})
