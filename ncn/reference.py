"""The published run as this project refers to it: its figures, and what they depend on."""

from ncn.config import Params

# Run 1 of the preprint's repository: its figures, and the settings without which they are no
# reference for another run's.
PUBLISHED_RUN_1 = {"val_loss": 1.5082, "val_ppl": 4.5184, "parameters": 18_007_762}
PUBLISHED_SETTINGS = {
    "data.source": "tinystories-v2",
    "tokenizer.vocabulary": "gpt2",
    "model.d_model": 256,
    "model.n_layers": 6,
    "model.n_heads": 8,
    "model.d_ff": 1024,
    "model.context_length": 512,
    "train.epochs": 1,
}
PLAIN_PLATEAU = (5.5, 6.0)  # perplexity at which plain transformers of the class are said to stop


def differences_to_published(params: Params) -> list[str]:
    """The settings that make this run another experiment than the published one, in words."""
    differences = []
    for key, theirs in PUBLISHED_SETTINGS.items():
        section, name = key.split(".")
        if (ours := getattr(getattr(params, section), name)) != theirs:
            differences.append(f"{key} is {ours}, published {theirs}")
    return differences
