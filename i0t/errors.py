"""Exceptions whose messages are for users."""

from textwrap import shorten


class I0TError(ValueError):
    """Bad input: the message names the file, row or value, and says what to do.

    The programs print it as one line and exit with status 2; library callers catch it like any
    other exception, or as the ValueError that it also is. Programming errors keep their own types and their tracebacks.

    Example:
        >>> import numpy as np
        >>> from i0t import Standardizer
        >>> Standardizer().transform_text(np.eye(2))
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: Standardizer has no text mean yet: call fit(image_features, text_features).
    """


class NoPictureError(I0TError):
    """None of the images to encode could be read.

    Attributes:
        unreadable: one error message per image.
    """

    def __init__(self, message: str, unreadable: list[str]) -> None:
        super().__init__(message)
        self.unreadable = unreadable


def first_line(error: BaseException, most: int | None = None) -> str:
    r"""Return the first line of an error's message, or its type if the message is empty (as of EOFError).

    With `most`, a line of more characters is cut between two words.

    Example:
        >>> first_line(OSError("Please try again.\\nTrace: ..."), 12)
        'Please ...'
    """
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip()
    return line if most is None else shorten(line, most, placeholder=" ...")
