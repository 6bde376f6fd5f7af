"""groundup: from raw text to a language model that answers, with every stage in view.

The names below are loaded when first used: `import groundup` imports neither torch nor numpy.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

# The public names, in roadmap order, and the room each one lives in.
_ROOMS = {
    "Document": "text.documents",
    "read_documents": "text.documents",
    "CharacterTokenizer": "tokenizer.characters",
    "WordTokenizer": "tokenizer.words",
    "BPETokenizer": "tokenizer.bpe",
    "train_bpe": "tokenizer.train_bpe",
    "load_tokenizer": "tokenizer.files",
    "show_tokens": "tokenizer.show",
    "TokenStore": "data.store",
    "Windows": "data.windows",
    "Loader": "data.loader",
    "Mixture": "data.mixture",
    "GPTDatasetV1": "data.book",
    "create_dataloader_v1": "data.book",
    "GPTConfig": "model.config",
    "GPT": "model.gpt",
    "generate": "generate.engine",
    "pretrain": "train.pretrain",
    "PretrainConfig": "train.pretrain",
    "evaluate": "evaluate.evaluate",
    "EvaluateConfig": "evaluate.evaluate",
    "load": "evaluate.load",
    "classify": "finetune.classify",
    "ClassifyConfig": "finetune.classify",
    "instruct": "finetune.instruct",
    "InstructConfig": "finetune.instruct",
    "UserError": "base.errors",
}

__all__ = list(_ROOMS)
__version__ = "0.1.0"


class _Package(ModuleType):
    """The package, in which `groundup.generate` and `groundup.evaluate` mean the functions.

    Two rooms share their name with a public function. Importing a room would bind the module to
    that name; here the function keeps it. `from groundup.generate.engine import ...` works on.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _ROOMS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _ROOMS:
            raise AttributeError(f"module 'groundup' has no attribute {name!r}")
        return getattr(import_module(f"groundup.{_ROOMS[name]}"), name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_ROOMS})


sys.modules[__name__].__class__ = _Package
