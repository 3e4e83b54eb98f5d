"""How large an image may be: a bound that stands before every allocation, and the setting that raises it."""

from __future__ import annotations

from hounsfield.errors import UsageError
from hounsfield.images.settings import MAX_PIXELS_VARIABLE, setting

# Values (pixels × channels) of one image. A breast tomosynthesis has 3·10⁸; a file that is damaged may declare 10¹⁹.
MAX_PIXELS = 2**31
# What a file may hold beside the values that its header explains.
SPARE_BYTES = 2**26


def pixel_limit(asked: int | None = None) -> int:
    """The most values that an image may have: what was asked for, or the setting, or ``MAX_PIXELS``.

    Raises:
        UsageError: the setting is no positive number.
    """
    if asked is not None:
        return asked
    text = setting(MAX_PIXELS_VARIABLE)
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(
            f"The environment variable {MAX_PIXELS_VARIABLE} is '{text}': expected a number of values, as 2147483648."
        )
    return int(text)
