"""The target value that the loss leaves out, in one place for the loaders and the loss."""

IGNORE_INDEX = -100
"""Target that does not count: padding, a prompt, a token that another window counts.

The value and the name are those of `torch.nn.functional.cross_entropy`.
"""
