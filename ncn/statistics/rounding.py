"""Fractions cut to the digits that they are worth."""

import json
from typing import Any


def rounded(value: Any, digits: int = 6) -> Any:
    """A JSON value with every fraction cut to `digits` significant digits.

    The last digits of a fit or a mean depend on the machine, and a file in git should not.
    """
    return json.loads(json.dumps(value), parse_float=lambda x: float(f"{float(x):.{digits}g}"))
