"""Numbers as a page shows them: rounded for reading; metrics/ keeps them whole."""

import math
import re

from ncn.common.nested import is_number

DASH = "–"
MINUS = "−"
DIGITS = 4  # significant
NOISE = 1e-12  # an interval within it is what rounding left of 0


def number(value: float | None, signed: bool = False) -> str:
    """A number with 4 significant digits, thousands set off; a dash where there is none."""
    if not is_number(value):
        return DASH
    return f"{value:{_style(abs(value), signed)}}".replace("-", MINUS)


def interval(
    value: float | None, low: float | None, high: float | None, signed: bool = False
) -> str:
    """`value [low, high]` with equal decimals, 4 significant digits in the largest."""
    numbers = [x for x in (value, low, high) if is_number(x)]
    if len(numbers) < 3:
        return number(value, signed)
    if max(map(abs, numbers)) < NOISE:
        numbers = [0.0, 0.0, 0.0]
    style = _style(max(map(abs, numbers)), signed)
    middle, *ends = (f"{x:{style}}".replace("-", MINUS) for x in numbers)
    return f"{middle} [{', '.join(ends)}]"


def margin(value: float, low: float, high: float) -> tuple[str, str, str]:
    """A value and its 95 % ends, signed, with the decimals that its uncertainty is worth: two."""
    decimals = max(0, 1 - math.floor(math.log10(high - low))) if high > low else DIGITS
    middle, *ends = (f"{x:+.{decimals}f}".replace("-", MINUS) for x in (value, low, high))
    return middle, ends[0], ends[1]


def count(value: int | None) -> str:
    """A whole number in full; a dash where there is none."""
    return f"{value:,}" if is_number(value) else DASH


def typeset(text: str) -> str:
    """The words of metrics/, which are ASCII, with the signs that the page has elsewhere."""
    return re.sub(r"(?<![\w-])-(?=\d)", MINUS, text.replace("+-", "±"))


def _style(largest: float, signed: bool) -> str:
    """The format of numbers of which one has this magnitude; none is a negative zero."""
    sign = "+z" if signed else "z"
    if 0 < largest < 1e-4:
        return f"{sign}.{DIGITS - 1}e"
    return f"{sign},.{_decimals(largest)}f"


def _decimals(largest: float) -> int:
    """Decimals that show the largest of some magnitudes with DIGITS significant digits."""
    return min(max(0, DIGITS - 1 - math.floor(math.log10(largest))), 6) if largest else 0
