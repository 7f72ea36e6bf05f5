"""Limits that the preprint names, against which what is measured is held."""

GAIN_RANGE = (0.99, 1.05)  # in which all gains are said to stay
PRECISION_CLAMP = 4.0  # the highest precision, above which fp16 is said to fail
NEAR_ZERO = 0.1  # a gate below it is as good as closed
PLAIN_PLATEAU = (5.5, 6.0)  # perplexity at which plain transformers of the class are said to stop
