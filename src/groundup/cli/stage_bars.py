"""One progress bar after the other, for a command whose stages are not known in advance."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from groundup.cli.console import Line, progress


@contextmanager
def stage_bars() -> Iterator[Callable[[str, int | None], Line | None]]:
    """Yield a function that gives the bar of a stage; the bar of the stage before it is closed.

    An empty name closes the bar, so that other lines can be printed.
    """
    with ExitStack() as stack:
        current, line = "", None

        def bar(stage: str, total: int | None) -> Line | None:
            nonlocal current, line
            if stage != current:
                stack.close()
                current = stage
                line = stack.enter_context(progress(stage, total)) if stage else None
            elif line is not None:
                line.total = total  # under a budget, the current estimate
            return line

        yield bar
