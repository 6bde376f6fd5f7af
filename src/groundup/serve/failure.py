"""How an unexpected error is described. Its message may quote a conversation, and is left out."""

import traceback
from pathlib import Path


def described(error: BaseException) -> str:
    """Name the type of an error, and the place where it was raised.

    >>> described(ValueError("my secret"))
    'ValueError'
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
