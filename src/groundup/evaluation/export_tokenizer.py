"""What an export says besides the weights: the tokenizer, the chat template, and the ends of texts.

An exported model stops by itself where our own generation stops.
"""

import shutil
from pathlib import Path
from typing import Any

from groundup.base.files import read_json, write_json
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.pretrained import KEPT_FILES
from groundup.tokenizer.chat_template import CHAT_TEMPLATE, read_chat_template
from groundup.tokenizer.special_names import end_of_text_id
from groundup.weights.special_ids import NAMES, SpecialIds, as_ids, one_end


def is_huggingface_schema(tokenizer: Path) -> bool:
    """Whether the tokenizers library can read it: word and character tokenizers it cannot."""
    about = read_json(tokenizer) if tokenizer.is_file() else {}
    return isinstance(about, dict) and isinstance(about.get("model"), dict)


def exported_ids(language_model: LanguageModel) -> SpecialIds:
    """The ids to write: those of the source of an imported model, and the ends of answers."""
    ids = language_model.special_ids
    if not ids.config and not ids.generation:
        ids = one_end(end_of_text_id(language_model.tokenizer))
    # transformers reads generation_config.json only, where there is one.
    generation = {name: ids.config[name] for name in NAMES if name in ids.config}
    generation |= ids.generation
    ends = list(language_model.stop_ids)
    if not language_model.is_assistant:
        if ends:
            generation.setdefault("eos_token_id", ends)
        stated = as_ids(generation.get("eos_token_id"))
        if missing := [i for i in language_model.tokenizer_ends if i not in stated]:
            generation["eos_token_id"] = [*stated, *missing]  # the end of a turn of its template
        return SpecialIds(config=ids.config, generation=generation)
    both = {"eos_token_id": ends}
    return SpecialIds(config={**ids.config, **both}, generation={**generation, **both})


def chat_template_of(tokenizer: Path, *, is_assistant: bool) -> str | None:
    """Find the chat template of a model in the folder of its tokenizer; None: there is none."""
    template = read_chat_template(tokenizer)
    if template is not None:
        return template.source
    return CHAT_TEMPLATE if is_assistant else None


def write_tokenizer(
    language_model: LanguageModel, source: Path, folder: Path, ids: SpecialIds
) -> None:
    """Copy tokenizer.json, and write or copy tokenizer_config.json."""
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    if not language_model.is_assistant or language_model.chat_template is not None:
        for name in KEPT_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        if (copied := read_chat_template(folder)) is not None:
            copied.check()
    if (folder / "tokenizer_config.json").is_file():
        return
    about: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": language_model.model.config.context_length,
        "clean_up_tokenization_spaces": False,
    }
    names = {index: name for name, index in language_model.tokenizer.special_tokens.items()}
    entries = {**ids.config, **ids.generation}
    for token in ("bos", "eos", "pad"):
        found = [names[i] for i in as_ids(entries.get(f"{token}_token_id")) if i in names]
        if found:
            about[f"{token}_token"] = found[0]
    template = chat_template_of(source, is_assistant=language_model.is_assistant)
    if template is not None:
        about["chat_template"] = template
    write_json(folder / "tokenizer_config.json", about)
