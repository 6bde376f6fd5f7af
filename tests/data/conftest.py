"""A busy machine is not a failure: hypothesis has no deadline here.

This file imports nothing of groundup: jaxtyping checks only what is imported after it.
"""

from hypothesis import settings

settings.register_profile("any-speed", deadline=None)
settings.load_profile("any-speed")
