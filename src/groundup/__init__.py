"""groundup: from raw text to a language model that answers, with every stage in view.

A command is a function of the same name. It takes its config, or a path and settings by name:

    evaluate(EvaluateConfig(run="runs/story", stride=64))
    evaluate("runs/story", stride=64)

The public names are below, in the order of the stages. Each one is imported when it is first used,
so that `import groundup` loads neither torch nor numpy.
"""

import re

import lazy_loader

__version__ = "0.1.0"

_STAGES = {
    "1 Build the LLM": ("text", "tokenizer", "data", "model"),
    "2 Foundation model": (
        *("planning", "train", "pretraining", "evaluation", "generation", "weights"),
    ),
    "3 Fine-tuning": ("finetune", "chat", "serve"),
    "Look inside": ("inspection", "reference"),
}
_REST = "For all stages"


def _public_names() -> str:
    """List the names in `__init__.pyi` by stage, for `help(groundup)`."""
    with open(f"{__file__}i", encoding="utf-8") as stub:
        found = re.findall(r"^from \.([\w]+)\S* import \w+ as (\w+)$", stub.read(), re.MULTILINE)
    stage_of = {package: stage for stage, packages in _STAGES.items() for package in packages}
    lines = []
    for stage in (*_STAGES, _REST):
        names = [name for package, name in found if stage_of.get(package, _REST) == stage]
        lines += ["", stage, *(f"    {name}" for name in names)]
    return "\n".join(lines) + "\n"


__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
if __doc__ is not None:  # python -OO removes it
    __doc__ += _public_names()
