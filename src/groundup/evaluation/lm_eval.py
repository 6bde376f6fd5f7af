"""Models of this library in `lm-evaluation-harness`.

    import groundup
    import lm_eval

    model = groundup.LMEval("runs/story")
    results = lm_eval.simple_evaluate(model=model, tasks=["hellaswag"])

Contexts, continuations and windows are cut as its `hf` model cuts them, so the results are equal.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from groundup.base.device import choose_device
from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.evaluation.decoders import decoder_of, form_of
from groundup.evaluation.load import load
from groundup.evaluation.tasks.prompts import encode_pairs
from groundup.evaluation.text_generation import token_bytes
from groundup.generation.engine import Engine, Handle
from groundup.generation.request import Request, Sampling
from groundup.generation.scoring import Likelihood, Prompt, score, shared_prefixes
from groundup.tokenizer.chat_template import CHAT_TEMPLATE, ChatTemplate

_log = logging.getLogger(__name__)
_MOST_ROWS = 16
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING = {"temperature", "top_k", "top_p", "min_p", "repetition_penalty"}


class LMEval:
    """A run, an imported model or an assistant as a model of `lm-evaluation-harness`.

    Args:
        run: Run folder, or one of its checkpoints.
        device: Device: auto, cpu, cuda or cuda:N.
        dtype: Number format of the weights.
        prefix_caching: Compute what requests have in common once.
        add_bos_token: Begin texts with the ids that the tokenizer begins with, such as BOS. None:
            where the tokenizer has such ids, as the `hf` model does.
        max_gen_toks: Maximum length of a generated text for tasks that do not set it.

    Raises:
        UserError: `lm-evaluation-harness` is not installed, or there is no model.
    """

    def __init__(
        self,
        run: Path | str,
        *,
        device: str = "auto",
        dtype: Literal["float32", "bfloat16"] = "float32",
        prefix_caching: bool = True,
        add_bos_token: bool | None = None,
        max_gen_toks: int = 256,
    ) -> None:
        needed("lm_eval", "lm-eval", str(run))
        # It accepts instances of its class only, and is not imported before it is used.
        needed("lm_eval.api.model", "lm-eval", str(run)).LM.register(LMEval)
        self.language_model = load(Path(run))
        model = self.language_model.model.to(choose_device(device))
        form = form_of(dtype, None)
        self._decoder = decoder_of(model, self.language_model.path, form=form)
        self.tokenizer = self.language_model.tokenizer
        self._prefix_caching = prefix_caching
        begin = [] if add_bos_token is False else getattr(self.tokenizer, "begin_ids", [])
        self._begin: list[int] = begin
        self.max_gen_toks = max_gen_toks
        self.max_length = model.config.context_length
        self.device = model.device
        self.rank, self.world_size = 0, 1
        self.cache_hook: Any = None

    @property
    def n_computed(self) -> int:
        """Number of tokens computed so far."""
        return self._decoder.n_computed

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without a context.

        Raises:
            UserError: The model has no token that begins or ends a text.
        """
        ids = [*getattr(self.tokenizer, "begin_ids", []), *self.language_model.start_ids]
        if not ids:
            raise UserError(
                "The model has no token that begins a text, which a text without a context needs.",
                where=self.language_model.path,
            )
        return int(ids[0])

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Compute the log-likelihood of each continuation, and whether it is the greedy one."""
        pairs = [self._pair(*request.args) for request in requests]
        found = [(each.nats, each.is_greedy) for each in self._scored(pairs)]
        for request, each in zip(requests, found, strict=True):
            self._remember("loglikelihood", request.args, each)
        return found

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Compute the log-likelihood of each text, in windows of the length of the context."""
        pairs: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for index, request in enumerate(requests):
            windows = list(self._windows(self._encoded(request.args[0])))
            pairs += windows
            owners += [index] * len(windows)
        totals = [0.0] * len(requests)
        for owner, each in zip(owners, self._scored(pairs), strict=True):
            totals[owner] += each.nats
        for request, total in zip(requests, totals, strict=True):
            self._remember("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a text for each request, up to one of its stop strings."""
        asked = [self._request(*request.args) for request in requests]
        texts = [""] * len(asked)
        for n_shared, indices in shared_prefixes([each.ids for each in asked]):
            engine = Engine(
                self._decoder,
                max_rows=_MOST_ROWS,
                token_bytes=token_bytes(self.tokenizer),
                hidden_ids=self.tokenizer.special_tokens.values(),
            )
            if self._prefix_caching:
                engine.share(asked[indices[0]].ids[:n_shared])
            handles: dict[Handle, int] = {engine.submit(asked[i]): i for i in indices}
            while not engine.is_idle:
                for event in engine.step():
                    if event.error is not None:
                        raise event.error
                    texts[handles[event.handle]] += event.text
        for request, text in zip(requests, texts, strict=True):
            self._remember("generate_until", request.args, text)
        return texts

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context == "":
            ids = self.tokenizer.encode(continuation, "all")
            first = [self.prefix_token_id]
            return (first, ids) if ids[:1] != first else (ids[:1], ids[1:])
        before, after = encode_pairs(self.tokenizer, context, [continuation], allowed_special="all")
        return self._begun(context, before), after

    def _encoded(self, text: str) -> list[int]:
        return self._begun(text, self.tokenizer.encode(text, "all"))

    def _begun(self, text: str, ids: list[int]) -> list[int]:
        """Put the ids that begin a text before it, unless it has them."""
        return ids if ids[: len(self._begin)] == self._begin else [*self._begin, *ids]

    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Likelihood]:
        """Score continuations; those of the same context are computed together."""
        T = self.max_length
        asked: dict[tuple[int, ...], list[int]] = {}
        cut = []
        n_cut = 0
        for index, (context, continuation) in enumerate(pairs):
            n_left = T + 1 - len(continuation)
            n_cut += len(context) > n_left
            cut.append((context[-n_left:] if n_left > 0 else [], continuation))
            asked.setdefault(tuple(cut[-1][0]), []).append(index)
        if n_cut:
            _log.warning(
                "%d requests do not fit in the context of %d tokens. Their beginning was left out.",
                n_cut,
                T,
            )
        groups = list(asked.items())
        prompts = [Prompt(ids=ids, continuations=[cut[i][1] for i in own]) for ids, own in groups]
        results: dict[int, Likelihood] = {}
        for place, found in score(self._decoder, prompts, share_prefixes=self._prefix_caching):
            results.update(zip(groups[place][1], found, strict=True))
        return [results[index] for index in range(len(pairs))]

    def _windows(self, ids: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Cut a text so that each token is a target once, with as much context as there is."""
        T = self.max_length
        if ids:
            yield [self.prefix_token_id], ids[:T]
        for start in range(T, len(ids), T):
            stop = min(start + T, len(ids))
            yield ids[stop - T - 1 : start], ids[start:stop]

    def _request(self, context: str, settings: Mapping[str, Any]) -> Request:
        given = dict(settings)
        lengths = [given.pop(name) for name in _LENGTHS if name in given]
        n_new = int(lengths[0]) if lengths else self.max_gen_toks
        stop = given.pop("until", None) or []
        stop = [stop] if isinstance(stop, str) else list(stop)
        is_sampled = given.pop("do_sample", None)
        if is_sampled is False or not given.get("temperature"):
            given = {"temperature": 0.0}
        unknown = given.keys() - _SAMPLING
        if unknown:
            raise UserError(
                f"The setting {min(unknown)!r} of a task is not known. One of "
                f"{', '.join(sorted(_SAMPLING))} is expected."
            )
        ids = self._encoded(context)
        n_left = self.max_length - n_new
        if n_left < 1:
            raise UserError(
                f"{n_new} tokens are to be generated, and the context has {self.max_length}. "
                "Fewer are expected.",
                settings={"max_gen_toks": self.max_length // 2},
            )
        return Request(
            ids=ids[-n_left:],
            max_new_tokens=n_new,
            sampling=Sampling(**given),
            stop_ids=self.language_model.stop_ids,
            stop=[text for text in stop if text],
        )

    def _remember(self, kind: str, key: Any, value: Any) -> None:
        if self.cache_hook is not None:
            self.cache_hook.add_partial(kind, key, value)

    # What the harness asks of a model beside the three methods above.

    @property
    def tokenizer_name(self) -> str:
        """The fingerprint of the tokenizer, a part of the names of caches."""
        return self.tokenizer.fingerprint[:16]

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Set what is told every result."""
        self.cache_hook = cache_hook

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the chat template of the model; None if none is asked for."""
        if not chat_template:
            return None
        if not self.language_model.can_chat:
            raise UserError(
                "This model has no chat template. An assistant, or an imported model with a chat "
                "template, is expected.",
                where=self.language_model.path,
            )
        template = self.language_model.chat_template
        return CHAT_TEMPLATE if template is None else template.source

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Write a conversation as text; without a generation prompt the last message goes on."""
        template = self.language_model.chat_template or ChatTemplate(CHAT_TEMPLATE)
        text = template.render(chat_history, add_generation_prompt=add_generation_prompt)
        if add_generation_prompt:
            return text
        last = chat_history[-1]["content"].strip()
        return text[: text.rindex(last) + len(last)]

    def all_gather(self, tensor: Any) -> Any:
        """Return the tensor: there is one process."""
        return tensor

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any]:
        """Return the object: there is one process."""
        return [obj]

    def barrier(self) -> None:
        """Wait for no one: there is one process."""
