"""The mean loss of an arm: the one way in which it is computed."""

from ncn.statistics.interval import Floats


def mean_loss_over(sums: Floats, tokens: Floats) -> Floats:
    """The mean loss a token, [...].

    Args:
        sums: [..., C], nats over all tokens of each cluster.
        tokens: [C], of each cluster.
    """
    mean: Floats = sums.sum(axis=-1) / tokens.sum()
    return mean
