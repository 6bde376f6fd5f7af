"""The signal that ends a command, told apart from Ctrl-C."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: it ends a command wherever Ctrl-C does, and a chat, too."""
