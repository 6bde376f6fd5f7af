"""Turn a request of a client into requests of the engine, with the tokens of its prompt."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from groundup.base.arguments import shown
from groundup.base.errors import UserError
from groundup.evaluation.text_generation import prompt_ids
from groundup.generation.request import Request
from groundup.serve.errors import ApiError, of_user
from groundup.serve.requests import ChatForm, CompletionForm, GenerationForm
from groundup.serve.served_model import ServedModel
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.words import WordTokenizer

_PART = 50_000
"""Characters of a long text that are encoded at a time."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the engine is asked."""

    requests: tuple[Request, ...]
    """One for each prompt."""

    @property
    def n_prompt_tokens(self) -> int:
        """Number of tokens of all prompts."""
        return sum(len(request.ids) for request in self.requests)


def prepare(form: GenerationForm, served: ServedModel) -> Prepared:
    """Encode the prompts of a request, and check what depends on the model.

    Raises:
        ApiError: The model has another name, a prompt is too long, or a value does not fit it.
    """
    check_model(form.model, served)
    if isinstance(form, ChatForm):
        prompts = [_chat_ids(form, served)]
    else:
        assert isinstance(form, CompletionForm)
        prompts = [_prompt_ids(prompt, served) for prompt in form.prompt]
    _check_logit_bias(form, served)
    constraint = None
    if form.response_format is not None:
        schema = form.response_format.schema_to_follow
        try:
            constraint = None if schema is None else served.json_constraint(schema)
        except UserError as error:
            raise of_user(error, "response_format") from error
    requests = tuple(
        Request(
            ids=ids,
            max_new_tokens=_max_new_tokens(form, ids, served),
            sampling=form.sampling(seed=secrets.randbits(62)),
            n=form.n_texts,
            stop_ids=served.model.stop_ids,
            stop=form.stop or (),
            logprobs=form.n_logprobs,
            constraint=constraint,
        )
        for ids in prompts
    )
    try:
        served.worker.admission.check_room(requests, served.worker.engine)
    except UserError as error:
        raise of_user(error, "n" if len(requests) == 1 else "prompt") from error
    return Prepared(requests=requests)


def check_model(name: str, served: ServedModel) -> None:
    """Check that a client asks for the model that is served.

    Raises:
        ApiError: It asks for another one.
    """
    if name != served.name:
        raise ApiError(
            f"The model {name[:100]!r} is not served. Expected {served.name!r}.",
            param="model",
            status=404,
            code="model_not_found",
        )


def _chat_ids(form: ChatForm, served: ServedModel) -> list[int]:
    """Render a conversation, with the function and the template of training and chat."""
    if not served.model.can_chat:
        raise ApiError(
            f"The model {served.name!r} has no chat template. Expected a request to "
            "/v1/completions, or a model that was fine-tuned with `groundup instruct`.",
            param="messages",
        )
    messages = [each.message for each in form.messages]
    contents = [message.content for message in messages]
    check_texts(contents, "messages", served)
    try:
        ids, _ = render_ids(
            messages, served.tokenizer, served.model.chat_template, add_generation_prompt=True
        )
    except UserError as error:
        raise of_user(error, "messages") from error
    check_length(ids, "messages", served)
    return ids


def _prompt_ids(prompt: str | Sequence[int], served: ServedModel) -> list[int]:
    if isinstance(prompt, str):
        check_texts([prompt], "prompt", served)
        try:
            ids = prompt_ids(served.model, prompt)
        except UserError as error:
            raise of_user(error, "prompt") from error
    else:
        ids, V = list(prompt), served.tokenizer.vocab_size
        outside = [i for i in ids if not 0 <= i < V]
        if outside:
            raise ApiError(
                f"prompt has the token id {shown(outside[0])}, and the vocabulary ends at {V - 1}.",
                param="prompt",
            )
    check_length(ids, "prompt", served)
    return ids


def check_texts(texts: Sequence[str], param: str, served: ServedModel) -> None:
    """Refuse texts that are far too long before they are encoded as a whole, or rendered.

    That would take up to a hundred bytes of memory for each character, and seconds.
    """
    if isinstance(served.tokenizer, WordTokenizer):
        return  # an unknown word of any length is one token
    n_tokens = sum(len(text.encode()) for text in texts) // served.longest_token_bytes
    if n_tokens <= served.context_length and sum(map(len, texts)) > _PART:
        parts = (text[i : i + _PART] for text in texts for i in range(0, len(text), _PART))
        # Tokens may merge where parts meet.
        n_tokens = sum(len(served.tokenizer.encode(part)) - 2 for part in parts)
    if n_tokens > served.context_length:
        raise _too_long(f"at least {n_tokens:,}", param, served)


def check_length(ids: Sequence[int], param: str, served: ServedModel) -> None:
    """Check that a prompt fits.

    Raises:
        ApiError: It has more tokens than the context or the limit of the server.
    """
    if len(ids) > served.context_length or (
        served.max_prompt_tokens is not None and len(ids) > served.max_prompt_tokens
    ):
        raise _too_long(f"{len(ids):,}", param, served)


def _too_long(n_tokens: str, param: str, served: ServedModel) -> ApiError:
    T, limit = served.context_length, served.max_prompt_tokens
    most = f"the context of the model has {T:,}"
    if limit is not None and limit < T:
        most = f"this server reads at most {limit:,}"
    return ApiError(
        f"The prompt has {n_tokens} tokens, and {most}. A shorter prompt is expected.",
        param=param,
        code="context_length_exceeded",
    )


def _check_logit_bias(form: GenerationForm, served: ServedModel) -> None:
    V = served.tokenizer.vocab_size
    outside = [i for i in form.logit_bias or {} if i >= V]
    if outside:
        raise ApiError(
            f"logit_bias has the token id {outside[0]}, and the vocabulary ends at {V - 1}.",
            param="logit_bias",
        )


def _max_new_tokens(form: GenerationForm, ids: Sequence[int], served: ServedModel) -> int:
    """The maximum length of an answer, which also ends where the context does."""
    param, asked = form.most_new_tokens
    limit = served.max_new_tokens
    if asked is not None and limit is not None and asked > limit:
        raise ApiError(
            f"{param} is {asked:,}, and this server generates at most {limit:,} tokens.",
            param=param,
        )
    room = max(1, served.context_length - len(ids) + 1)
    return min(room if asked is None else asked, room, limit or room)
