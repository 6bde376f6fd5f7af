"""What is changed in a text before anything else: line ends and the byte-order mark, no more."""


def clean(text: str) -> str:
    r"""Give every line the same end and drop a byte-order mark at the start.

    >>> clean("\ufeffone\r\ntwo\rthree")
    'one\ntwo\nthree'
    """
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
