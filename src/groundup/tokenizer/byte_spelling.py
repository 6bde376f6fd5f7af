"""How GPT-2 and its successors write a byte in a text file: one printable character each."""


def byte_spelling() -> list[str]:
    """Give GPT-2's printable stand-in for each byte, by byte value.

    Printable bytes stand for themselves, the others for the characters from U+0100 on.
    Source: OpenAI's GPT-2 release (`bytes_to_unicode`).
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spelling, next_free = [], 256
    for value in range(256):
        if value in printable:
            spelling.append(chr(value))
        else:
            spelling.append(chr(next_free))
            next_free += 1
    return spelling
