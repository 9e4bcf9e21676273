"""The exception a user is meant to read."""


class I0TError(Exception):
    """Bad input: the message names the file, row or value, and says what to do.

    The programs print it as one line and exit with status 2; library callers catch it like any
    other exception. Programming errors keep their own types and their tracebacks.

    Example:
        >>> import numpy as np
        >>> from i0t import Standardizer
        >>> Standardizer().transform_text(np.eye(2))
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: Standardizer has no text mean yet: call fit(image_features, text_features).
    """


class NoPictureError(I0TError):
    """Not one of the pictures to encode could be read.

    Attributes:
        unreadable: why, of each picture.

    Example:
        >>> NoPictureError("no picture to encode: 1 listed, 1 unreadable.", ["a.jpg: unreadable picture"]).unreadable
        ['a.jpg: unreadable picture']
    """

    def __init__(self, message: str, unreadable: list[str]) -> None:
        super().__init__(message)
        self.unreadable = unreadable


def first_line(error: BaseException) -> str:
    r"""What an error says in one line: its first, or its kind where it says nothing (as EOFError does).

    Example:
        >>> first_line(OSError("disk full\nat byte 7")), first_line(EOFError())
        ('disk full', 'EOFError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip()
