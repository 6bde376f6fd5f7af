"""Open a trained model together with its tokenizer."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from groundup.base.errors import UserError, quoted
from groundup.base.run import RunFolder
from groundup.data.protocol import ArrayTokens
from groundup.evaluation.loss import evaluate_loss
from groundup.evaluation.text_generation import (
    constraint_of,
    prompt_ids,
    stream_text,
    text_engine,
)
from groundup.generation.request import Request, Sampling
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.tokenizer.chat_template import (
    CHAT_TEMPLATE,
    ChatTemplate,
    read_chat_template,
)
from groundup.tokenizer.conversation import turn_end
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.special import END, END_OF_TEXT
from groundup.tokenizer.special_names import end_of_text_id, read_special_names
from groundup.weights.checkpoint_format import open_model
from groundup.weights.special_ids import SpecialIds

_log = logging.getLogger(__name__)

ASSISTANT_MARK = "assistant.json"
"""A file that `instruct` writes after the model: a folder that has it is a complete assistant."""
CLASSIFIER_MARK = "labels.json"
"""A file that `classify` writes last: a folder that has it is a complete classifier."""


@dataclass(frozen=True, repr=False)
class LanguageModel:
    """A model and its tokenizer."""

    model: GPT
    tokenizer: Tokenizer
    path: Path
    """The folder the weights were read from."""
    special_ids: SpecialIds = field(default_factory=SpecialIds)
    """The ids at which texts begin and end, of a model that was imported."""
    is_assistant: bool = False
    """Whether the model was fine-tuned by `instruct`."""
    chat_template: ChatTemplate | None = None
    """The chat template of an imported model. None: it has none, or that of our assistants."""
    tokenizer_ends: tuple[int, ...] = ()
    """The ids that end a text or a turn by the tokenizer's files and the chat template."""

    def __repr__(self) -> str:
        """Name the run, the step, the size and the vocabulary."""
        run, step = RunFolder.of(self.path).path, self.path.name.removeprefix("step-")
        facts = [f"step {int(step)}"] if step.isdecimal() else []
        n_parameters = sum(p.numel() for p in self.model.parameters())
        facts += [f"{_short(n_parameters)} parameters", f"vocabulary {self.tokenizer.vocab_size:,}"]
        return f"LanguageModel({', '.join([str(run), *facts])})"

    @property
    def can_chat(self) -> bool:
        """Whether the model knows how a conversation is written."""
        return self.is_assistant or self.chat_template is not None

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a text or an answer.

        They are the end of a turn for an assistant, the ends of texts that the files of an imported
        model name, the end of a turn in its chat template, and `<|endoftext|>`.
        """
        special = self.tokenizer.special_tokens
        is_ours = self.is_assistant and self.chat_template is None
        first = [special[END]] if is_ours and END in special else []
        last = [special[END_OF_TEXT]] if END_OF_TEXT in special else []
        ids = [*first, *self.special_ids.eos, *self.tokenizer_ends, *last]
        return tuple(dict.fromkeys(i for i in ids if 0 <= i < self.model.config.vocab_size))

    @property
    def start_ids(self) -> list[int]:
        """The ids that begin a text without a prompt; empty if the model has no such id."""
        end = end_of_text_id(self.tokenizer)
        begin = getattr(self.tokenizer, "begin_ids", [])
        candidates = (*begin, self.special_ids.bos, end, *self.special_ids.eos)
        V = self.tokenizer.vocab_size
        return [i for i in candidates if i is not None and 0 <= i < V][:1]

    def stream(
        self,
        text: str = "",
        max_new_tokens: int = 80,
        *,
        temperature: float | int = 0.8,
        top_k: int | None = None,
        top_p: float | int | None = 0.95,
        min_p: float | int | None = None,
        repetition_penalty: float | int = 1.0,
        presence_penalty: float | int = 0.0,
        frequency_penalty: float | int = 0.0,
        logit_bias: Mapping[int, float | int] | None = None,
        stop: Sequence[str] = (),
        choices: Sequence[str] = (),
        json_schema: Mapping[str, Any] | str | None = None,
        prompt_lookup: bool = False,
        seed: int = 0,
    ) -> Iterator[str]:
        """Continue a text, and yield the continuation piece by piece, in complete characters.

        Args:
            text: Text to continue. Empty: the model starts a new text.
            max_new_tokens: Maximum number of new tokens.
            temperature: Sampling temperature. 0: always the most likely token.
            top_k: Sample from this many most likely tokens. None disables it.
            top_p: Sample from the smallest set of tokens with this total probability. None
                disables it.
            min_p: Sample from tokens with at least this share of the largest probability. None
                disables it.
            repetition_penalty: Makes tokens of the prompt and the text less likely. 1 disables it.
            presence_penalty: Subtracted from the logits of tokens that were generated.
            frequency_penalty: Subtracted from these logits once for each time.
            logit_bias: Added to the logits of these ids.
            stop: Strings that end the text; they are not part of it.
            choices: Texts of which one is generated. Empty: any text.
            json_schema: JSON schema that the text follows. None: any text.
            prompt_lookup: Copy likely continuations from the text so far, and verify several tokens
                at once. The text is the same.
            seed: Random seed of the sample.

        Raises:
            UserError: A setting is out of range, or the text is empty and the model has no token
                that begins a text.
        """
        request = Request(
            ids=prompt_ids(self, text),
            max_new_tokens=max_new_tokens,
            sampling=Sampling(
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                presence_penalty=presence_penalty,
                frequency_penalty=frequency_penalty,
                logit_bias=logit_bias or {},
                seed=seed,
            ),
            stop_ids=self.stop_ids,
            stop=stop,
            constraint=constraint_of(self, choices, json_schema),
            slide=True,
            prompt_lookup=prompt_lookup,
        )
        engine = text_engine(self)
        request.check(engine.decoder.config.vocab_size, engine.decoder.config.context_length)
        return stream_text(engine, request)

    def generate(self, text: str = "", max_new_tokens: int = 80, **settings: Any) -> str:
        """Continue a text and return the continuation; same settings and errors as `stream`."""
        return "".join(self.stream(text, max_new_tokens, **settings))

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer, and the chat template if there is one, to FOLDER/tokenizer."""
        self.tokenizer.save(folder / "tokenizer")
        if self.chat_template is not None:
            self.chat_template.save(folder / "tokenizer")

    def loss(self, text: str) -> float:
        """Compute the mean loss on a text, in nats/token. The first token is not a target.

        Raises:
            UserError: The text has fewer than two tokens.
        """
        tokens = ArrayTokens(np.array(self.tokenizer.encode(text), dtype=np.int64))
        return evaluate_loss(self.model, tokens).nats


def load(path: Path | str) -> LanguageModel:
    """Open a run, one of its checkpoints, or the folder of a classifier or an assistant.

    Of a run the checkpoint with the best validation loss is taken (the text file `checkpoints/best`
    names it), or else the latest. Where one is damaged, a warning names it and the next is tried.

    Raises:
        UserError: There is no model, or none that is intact, or it does not fit the tokenizer, or
            a file cannot be read.
    """
    try:
        return _load(path)
    except OSError as error:
        raise UserError(
            f"This cannot be read ({error.strerror or error}). A readable run folder is expected.",
            where=str(error.filename or path),
        ) from error


def chat_parts(folder: Path, tokenizer: Tokenizer, *, is_assistant: bool) -> dict[str, Any]:
    """Read what the folder of a tokenizer says about conversations, as fields of LanguageModel.

    Raises:
        UserError: A file is not valid.
    """
    template = read_chat_template(folder)
    if is_assistant and template is not None and template.source == CHAT_TEMPLATE:
        template = None
    names = read_special_names(folder)
    ends = [tokenizer.special_tokens.get(names.get("eos_token", ""))]
    if template is not None:
        try:
            ends.append(turn_end(tokenizer, template))
        except UserError as error:
            _log.warning("%s", error.located)
    found = tuple(dict.fromkeys(index for index in ends if index is not None))
    return {"chat_template": template, "tokenizer_ends": found}


def run_of(path: Path | str, folder: Path) -> RunFolder:
    """Find the run of the weights in `folder`, which were found from `path`.

    An assistant or a classifier has its own tokenizer beside the weights, and is its own run.
    """
    return RunFolder(folder) if (folder / "tokenizer").is_dir() else RunFolder.of(path)


def refuse_classifier(run: RunFolder) -> None:
    """Check that a run is not a classifier, which continues no texts.

    Raises:
        UserError: It is one.
    """
    if (run.path / CLASSIFIER_MARK).is_file():
        raise UserError(
            "This is a classifier. A language model is expected. A classifier classifies texts.",
            where=run.path,
            command=f"groundup predict {quoted(run.path)}",
        )


def _load(path: Path | str) -> LanguageModel:
    folder, model = open_model(path)
    run = run_of(path, folder)
    if not run.tokenizer.is_dir():
        raise UserError(
            "There is no tokenizer for this model, so it cannot read or write text. A folder "
            "`tokenizer` with the tokenizer that it was trained with is expected in the run.",
            where=run.path,
        )
    tokenizer = load_tokenizer(run.tokenizer)
    check_vocabulary(model.config, tokenizer, where=run.tokenizer)
    # The rows beyond the tokenizer are padding: no token has these ids, so none is generated.
    model.n_used_ids = tokenizer.vocab_size
    model.eval()
    is_assistant = (run.path / ASSISTANT_MARK).is_file()
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        path=folder,
        special_ids=SpecialIds.of_manifest(run.read_manifest(), run.manifest_path),
        is_assistant=is_assistant,
        **chat_parts(run.tokenizer, tokenizer, is_assistant=is_assistant),
    )


def check_vocabulary(config: GPTConfig, tokenizer: Tokenizer, *, where: Any) -> None:
    """Check that every token has a row of the embedding. More rows than tokens are allowed.

    Raises:
        UserError: The tokenizer has more tokens.
    """
    if config.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"The tokenizer has {tokenizer.vocab_size:,} tokens, and the model has embeddings for "
            f"{config.vocab_size:,} of them. The tokenizer that the model was trained with "
            "is expected.",
            where=where,
        )


def _short(n: int) -> str:
    """Write a count with three digits.

    >>> _short(950), _short(36_992), _short(1_972_000), _short(1_540_000_000)
    ('950', '36,992', '1.97 M', '1.54 G')
    """
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return f"{n:,}"
