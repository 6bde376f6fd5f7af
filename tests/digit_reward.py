"""A reward for tests of reinforcement learning that an untrained model sometimes gets."""


def starts_with_digit(prompt: str, reply: str, answer: str) -> float:
    """1 for a reply whose first character is a digit."""
    return float(reply[:1].isdecimal())
