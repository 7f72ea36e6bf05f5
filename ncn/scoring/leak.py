"""The future leak: whether a later token moves an earlier logit."""

import torch

from ncn.model import LanguageModel
from ncn.model.inputs import AnyRows, split_rows


@torch.inference_mode()
def future_leak(model: LanguageModel, rows: AnyRows, seed: int) -> float:
    """Largest change of any logit before position t when the tokens from t on are replaced.

    Replaced by random tokens and by another row's, at a quarter, a half, three quarters and the
    last position. 0 for a language model; a model that sees the future has no perplexity.

    Args:
        model: in evaluation mode.
        rows: [N, T + 1], at least two.
        seed: of the random tokens.
    """
    device = next(model.parameters()).device
    tokens, _, conditions = split_rows(rows, device)
    length = tokens.shape[1]
    random = torch.randint(
        model.config.vocab_size, tokens.shape, generator=torch.Generator().manual_seed(seed)
    ).to(device)
    before = model(tokens, conditions=conditions)
    leak = 0.0
    for cut in (length // 4, length // 2, 3 * length // 4, length - 1):
        for other in (random, tokens.roll(1, dims=0)):
            changed = torch.cat([tokens[:, :cut], other[:, cut:]], dim=1)
            after = model(changed, conditions=conditions)
            leak = max(leak, (after - before)[:, :cut].abs().max().item())
    return leak
