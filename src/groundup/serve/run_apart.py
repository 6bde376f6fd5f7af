"""Run a coroutine in a thread of its own, and wait for it."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like `asyncio.run`, also where an event loop runs, as in a notebook."""
    tasks: list[asyncio.Task[Any]] = []

    async def started() -> T:
        if (task := asyncio.current_task()) is not None:
            tasks.append(task)
        return await work

    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(asyncio.run, started()).result()
        except BaseException:
            for task in tasks:
                if not task.done():  # Ctrl-C
                    task.get_loop().call_soon_threadsafe(task.cancel)
            raise
