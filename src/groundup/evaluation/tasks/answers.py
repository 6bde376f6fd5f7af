"""Let a model answer the items of a task: by the likelihood of each choice, or by generation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from groundup.evaluation.load import LanguageModel
from groundup.evaluation.task_config import TaskConfig
from groundup.evaluation.tasks.graders import grade
from groundup.evaluation.tasks.items import Item
from groundup.evaluation.tasks.log import Row
from groundup.evaluation.tasks.prompts import TaskPrompt
from groundup.evaluation.text_generation import token_bytes
from groundup.generation.decoder import Decoder
from groundup.generation.engine import Engine, Handle
from groundup.generation.request import Request, Sampling
from groundup.generation.scoring import Likelihood, Prompt, score, shared_prefixes

_MOST_ROWS = 16


def choose(
    decoder: Decoder,
    items: Sequence[Item],
    prompts: Mapping[int, TaskPrompt],
    config: TaskConfig,
) -> Iterator[tuple[int, Row]]:
    """Compute the likelihoods of the choices of each item.

    Args:
        decoder: Computes the logits.
        items: All items of the task.
        prompts: The prompts to compute, by the index of their item.
        config: Whether prefixes are shared.

    Yields:
        The index of an item and its row of the log.
    """
    indices = list(prompts)
    asked = [
        Prompt(ids=prompt.ids, continuations=prompt.continuations) for prompt in prompts.values()
    ]
    for place, found in score(decoder, asked, share_prefixes=config.prefix_caching):
        index = indices[place]
        yield index, choice_row(items[index], prompts[index].text, found)


def choice_row(item: Item, prompt: object, found: Sequence[Likelihood]) -> Row:
    """Make the row of an item with choices.

    The predictions are those of `lm-evaluation-harness`: the most likely choice (acc), and the
    most likely one per character (acc_norm) and per byte (acc_bytes) of its text.
    """
    nats = np.array([each.nats for each in found])
    n_characters = np.array([len(choice) for choice in item.choices])
    n_bytes = np.array([len(choice.encode("utf-8")) for choice in item.choices])
    predictions = {
        "acc": int(nats.argmax()),
        "acc_norm": int((nats / n_characters).argmax()),
        "acc_bytes": int((nats / n_bytes).argmax()),
    }
    return {
        "item": item.name,
        "question": item.question,
        "prompt": prompt,
        "choices": list(item.choices),
        "log_likelihoods": nats.tolist(),
        "n_tokens": [each.n_tokens for each in found],
        "answer": item.answer,
        "predictions": predictions,
        "correct": {name: index == item.answer for name, index in predictions.items()},
    }


def answer(
    language_model: LanguageModel,
    decoder: Decoder,
    items: Sequence[Item],
    prompts: Mapping[int, TaskPrompt],
    config: TaskConfig,
    *,
    is_chat: bool,
) -> Iterator[tuple[int, Row]]:
    """Generate an answer to each item, always with the most likely token, and grade it.

    Args:
        language_model: The model with its tokenizer.
        decoder: Computes the logits.
        items: All items of the task.
        prompts: The prompts to answer, by the index of their item.
        config: The grader, and where answers end.
        is_chat: Whether the prompts are conversations.

    Yields:
        The index of an item and its row of the log.
    """
    stop = config.stop or (() if is_chat else ("\n",))
    indices = list(prompts)
    for place, found in generated_texts(
        language_model,
        decoder,
        [prompt.ids for prompt in prompts.values()],
        max_new_tokens=config.max_new_tokens,
        stop=stop,
        share_prefixes=config.prefix_caching,
    ):
        item, prompt = items[indices[place]], prompts[indices[place]]
        yield (
            indices[place],
            {
                "item": item.name,
                "question": item.question,
                "prompt": prompt.text,
                "output": found.text,
                "n_tokens": found.n_tokens,
                "finish_reason": found.finish_reason,
                "answers": list(item.answers),
                "correct": {"acc": grade(config.grader, found.text, item.answers)},
            },
        )


@dataclass(frozen=True, kw_only=True)
class GeneratedText:
    """A text that was generated."""

    text: str
    n_tokens: int
    finish_reason: str


def generated_texts(
    language_model: LanguageModel,
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    share_prefixes: bool = True,
) -> Iterator[tuple[int, GeneratedText]]:
    """Continue prompts, always with the most likely token.

    Args:
        language_model: The model with its tokenizer.
        decoder: Computes the logits.
        prompts: The ids of each prompt.
        max_new_tokens: Maximum length of a text.
        stop: Strings that end a text.
        share_prefixes: Read what several prompts begin with once.

    Yields:
        The index of a prompt and its text, as they are complete.
    """
    groups = shared_prefixes(prompts) if share_prefixes else [(0, list(range(len(prompts))))]
    for n_shared, places in groups:
        engine = Engine(
            decoder, max_rows=_MOST_ROWS, token_bytes=token_bytes(language_model.tokenizer)
        )
        engine.share(prompts[places[0]][:n_shared])
        handles: dict[Handle, int] = {}
        for place in places:
            request = Request(
                ids=prompts[place],
                max_new_tokens=max_new_tokens,
                sampling=Sampling(temperature=0.0),
                stop_ids=language_model.stop_ids,
                stop=stop,
            )
            handles[engine.submit(request)] = place
        texts = dict.fromkeys(handles, "")
        n_tokens = dict.fromkeys(handles, 0)
        while not engine.is_idle:
            for event in engine.step():
                if event.error is not None:
                    raise event.error
                texts[event.handle] += event.text
                n_tokens[event.handle] += len(event.tokens)
                if event.finish_reason is not None:
                    yield (
                        handles[event.handle],
                        GeneratedText(
                            text=texts[event.handle],
                            n_tokens=n_tokens[event.handle],
                            finish_reason=event.finish_reason,
                        ),
                    )
