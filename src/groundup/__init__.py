"""groundup: from raw text to a language model that answers, with every stage in view.

`__init__.pyi` lists the public names in roadmap order. Each one is imported when it is first used,
so that `import groundup` loads neither torch nor numpy.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
