"""Which requests are taken: limits of one request, and how many may wait."""

from groundup.generation.request import Request


class Busy(Exception):  # noqa: N818
    """The server has no room for a request now.

    Args:
        message: Whole sentences for the client.
        retry_after_s: When room is expected, in whole seconds, at least 1.
    """

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        self.message, self.retry_after_s = message, retry_after_s
        super().__init__(message)


class Admission:
    """Takes every request."""

    def check(self, request: Request) -> None:
        """Check a request."""
