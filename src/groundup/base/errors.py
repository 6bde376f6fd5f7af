"""The one error a user meets: what was found, what is needed, where, and what to type."""

import shlex
from pathlib import Path


class UserError(ValueError):
    """A mistake the user can mend. The command line prints it without a traceback.

    Args:
        found: What is wrong, as a sentence without a full stop.
        need: What would be right.
        where: The file, folder, record or option it is about.
        type_this: A command that leads out.

    >>> print(UserError("the file is empty", need="some text", where="a.txt", type_this="ls"))
    a.txt: the file is empty; some text is needed. Type: ls
    """

    def __init__(
        self, found: str, *, need: str = "", where: str | Path | None = None, type_this: str = ""
    ) -> None:
        self.found, self.need, self.where, self.type_this = found, need, where, type_this
        text = f"{where}: {found}" if where is not None else found
        if need:
            text += f"; {need} is needed" if not need.startswith("needed") else f"; {need}"
        if type_this:
            text += f". Type: {type_this}"
        super().__init__(text)


def quoted(word: str | Path) -> str:
    """Write a word of a command so that a shell reads it as one.

    >>> print("groundup evaluate", quoted(Path("runs/my run")))
    groundup evaluate 'runs/my run'
    """
    return shlex.quote(str(word))
