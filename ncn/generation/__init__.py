"""Text from a trained model: one token at a time, each position computed once."""

from ncn.generation.decoding import generate

__all__ = ["generate"]
