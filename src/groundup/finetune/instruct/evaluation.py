"""The test of an assistant: answers to test prompts, scored beside those of the baselines."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from groundup.base.files import write_text
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.paired import MIN_ITEMS, Difference, paired_bootstrap
from groundup.evaluation.text_generation import text_engine
from groundup.finetune.instruct import baselines
from groundup.finetune.instruct.scores import METRICS, Item, Scored, score, values
from groundup.generation.decoder import Form
from groundup.generation.request import Request, Sampling
from groundup.records.rows import Conversation
from groundup.tokenizer.conversation import render_ids
from groundup.tokenizer.template import Message

_MOST_ROWS = 32
_LARGE = 20_000_000
"""Above this number of parameters, answers are generated in bfloat16."""
OnAnswer = Callable[[str, int, int], None]
"""Called with the name of the system, the number of answers so far, and their total."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The answers of every system to the same test items."""

    items: list[Item] = field(default_factory=list)
    answers: dict[str, list[Scored]] = field(default_factory=dict)
    """By the name of the system, one answer for each item."""

    def joined(self, other: "Evaluation") -> "Evaluation":
        """Append the items and answers of another evaluation, of the systems that are in both.

        A system may be missing: where no prompt with examples fits the context.
        """
        if not self.items:
            return other
        both = [name for name in self.answers if name in other.answers]
        answers = {name: [*self.answers[name], *other.answers[name]] for name in both}
        return Evaluation(items=[*self.items, *other.items], answers=answers)

    @property
    def is_new(self) -> list[bool]:
        """For each item whether no training prompt is a near duplicate of it."""
        return [not item.is_near_duplicate for item in self.items]

    def mean(self, system: str, metric: str, among: Sequence[bool]) -> float | None:
        """Return the mean score of a system. None: no item has this score."""
        found = values(self.answers[system], metric, among)
        return sum(found) / len(found) if found else None

    def best_baseline(self, metric: str, among: Sequence[bool]) -> str | None:
        """Return the baseline with the highest mean. None: there is none."""
        means = {
            name: self.mean(name, metric, among) for name in self.answers if name != baselines.TUNED
        }
        known = {name: mean for name, mean in means.items() if mean is not None}
        return max(known, key=known.__getitem__, default=None)

    def difference(self, metric: str, baseline: str, among: Sequence[bool]) -> Difference | None:
        """Compare the assistant with a baseline, item by item. None: too few items for that."""
        tuned = values(self.answers[baselines.TUNED], metric, among)
        other = values(self.answers[baseline], metric, among)
        return paired_bootstrap(tuned, other) if len(tuned) >= MIN_ITEMS else None

    def verdict(self) -> list[str]:
        """Say for each metric whether the assistant is better than the best baseline."""
        among = self.is_new
        if not any(among):
            return ["Every test prompt has a near duplicate in training: nothing can be said."]
        first = []
        if not all(among):
            first = [f"On the {sum(among)} records without a near duplicate in the training set:"]
        return [*first, *(self._verdict_of(metric, among) for metric in METRICS)]

    def _verdict_of(self, metric: str, among: Sequence[bool]) -> str:
        best, tuned = self.best_baseline(metric, among), self.mean(baselines.TUNED, metric, among)
        if best is None or tuned is None:
            return f"{_capital(metric)}: no test prompt has a score."
        n = len(values(self.answers[best], metric, among))
        other = self.mean(best, metric, among)
        said = f"{_capital(metric)}: {tuned:.1%} against {other:.1%} ({best})"
        found = self.difference(metric, best, among)
        if found is None:
            return f"{said}; {n} prompts are too few to compare ({MIN_ITEMS} are needed)."
        gain = f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
        judged = "no clear difference"
        if found.is_clear:
            judged = "better than every baseline" if found.mean > 0 else "worse than this baseline"
        return f"{said}: {gain}, {judged}."

    @classmethod
    def read(cls, path: Path, items: Sequence[Item]) -> "Evaluation | None":
        """Read what `write` wrote for the same items. None: there is no such file."""
        if not path.is_file():
            return None
        try:
            # splitlines would also divide at characters such as U+2028 inside an answer.
            text = path.read_text("utf-8").removesuffix("\n")
            lines = [json.loads(line) for line in text.split("\n")]
            if [line["prompt"] for line in lines] != [item.prompt for item in items]:
                return None
            names = lines[0]["answers"]
            answers = {name: [Scored(**line["answers"][name]) for line in lines] for name in names}
        except (ValueError, KeyError, TypeError, IndexError):  # it was damaged
            return None
        return cls(items=list(items), answers=answers)

    def write(self, path: Path) -> None:
        """Write one line of JSON for each item, with the answers and scores of every system."""
        lines = []
        for index, item in enumerate(self.items):
            answers = {name: dataclasses.asdict(a[index]) for name, a in self.answers.items()}
            lines.append(
                {
                    "where": item.where,
                    "prompt": item.prompt,
                    "expected": item.reference,
                    "kind": item.kind,
                    "nearest_training_prompt": round(item.near_duplicate, 3),
                    "has_near_duplicate": item.is_near_duplicate,
                    "answers": answers,
                }
            )
        write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def generate_answers(
    language_model: LanguageModel,
    conversations: Sequence[Sequence[Message]],
    max_new_tokens: int,
    *,
    on_answer: Callable[[int], None] | None = None,
) -> list[tuple[str, bool] | None]:
    """Answer conversations greedily.

    Returns:
        The text of each answer, and whether the model ended it by itself. None: the prompt leaves
        no room for an answer.
    """
    model = language_model.model
    n_parameters = sum(p.numel() for p in model.parameters())
    form: Form = "bfloat16" if n_parameters > _LARGE else "float32"
    engine = text_engine(language_model, form=form, max_rows=_MOST_ROWS)
    texts: list[list[str]] = [[] for _ in conversations]
    ended: dict[int, bool] = {}
    handles = {}
    for number, messages in enumerate(conversations):
        ids, _ = render_ids(
            messages,
            language_model.tokenizer,
            language_model.chat_template,
            add_generation_prompt=True,
        )
        if len(ids) >= model.config.context_length:
            continue
        request = Request(
            ids=ids,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=0.0),
            stop_ids=language_model.stop_ids,
        )
        handles[engine.submit(request)] = number
    while not engine.is_idle:
        for event in engine.step():
            if event.error is not None:
                raise event.error
            number = handles[event.handle]
            texts[number].append(event.text)
            if event.finish_reason is not None:
                ended[number] = event.finish_reason == "stop"
                if on_answer is not None:
                    on_answer(len(ended))
    return [
        ("".join(text), ended[number]) if number in ended else None
        for number, text in enumerate(texts)
    ]


def untuned_answers(
    language_model: LanguageModel,
    items: Sequence[Item],
    training: Sequence[Conversation],
    max_new_tokens: int,
    *,
    with_baselines: bool,
    shots: int = 3,
    on_answer: OnAnswer | None = None,
) -> dict[str, list[Scored]]:
    """Score what costs no training: the untuned model, alone and with examples, and no model."""
    messages = {baselines.UNTUNED: [item.messages for item in items]}
    if with_baselines:
        longer = [baselines.with_examples(item, training, shots) for item in items]
        if shots and all(len(m) > len(i.messages) for m, i in zip(longer, items, strict=True)):
            messages[baselines.few_shot(shots)] = longer
    found: dict[str, list[Scored]] = {}
    for name, some in messages.items():
        answers = answer_and_score(
            language_model, items, max_new_tokens, name=name, messages=some, on_answer=on_answer
        )
        if answers is not None:
            found[name] = answers
    if with_baselines:
        texts = {
            baselines.FIRST_SENTENCE: [
                baselines.first_sentence(answer.text) for answer in found[baselines.UNTUNED]
            ],
            baselines.NEAREST: [item.nearest_answer for item in items],
            baselines.ECHO: [baselines.echo(item) for item in items],
        }
        for name, each in texts.items():
            found[name] = [score(i, text) for i, text in zip(items, each, strict=True)]
    return found


def answer_and_score(
    language_model: LanguageModel,
    items: Sequence[Item],
    max_new_tokens: int,
    *,
    name: str,
    messages: Sequence[Sequence[Message]] | None = None,
    on_answer: OnAnswer | None = None,
) -> list[Scored] | None:
    """Answer every item and score the answers. None: a prompt does not fit the context."""
    answers = generate_answers(
        language_model,
        [item.messages for item in items] if messages is None else messages,
        max_new_tokens,
        on_answer=None if on_answer is None else lambda n: on_answer(name, n, len(items)),
    )
    scored = []
    for item, answer in zip(items, answers, strict=True):
        if answer is None:
            return None
        scored.append(score(item, answer[0], is_ended=answer[1]))
    return scored


def table_of(evaluation: Evaluation, among: Sequence[bool]) -> list[list[str]]:
    """Make the rows of the table: each system with its scores, the assistant last."""
    return [
        [
            name,
            *(_percent(evaluation.mean(name, metric, among)) for metric in METRICS),
            *_lengths([a for a, is_in in zip(answers, among, strict=True) if is_in]),
        ]
        for name, answers in evaluation.answers.items()
    ]


COLUMNS = ("", *METRICS, "words", "ends")
"""The columns of `table_of`."""


def by_kind(evaluation: Evaluation, system: str) -> Mapping[str, tuple[int, int]]:
    """Count for each kind of prompt with a key how many answers have it, and of how many."""
    found: dict[str, tuple[int, int]] = {}
    for item, answer in zip(evaluation.items, evaluation.answers[system], strict=True):
        if answer.key is not None:
            n_right, n = found.get(item.kind, (0, 0))
            found[item.kind] = n_right + answer.key, n + 1
    return found


def _lengths(answers: Sequence[Scored]) -> list[str]:
    n_words = sum(answer.n_words for answer in answers) / max(1, len(answers))
    ended = [answer.is_ended for answer in answers if answer.is_ended is not None]
    return [f"{n_words:.1f}", f"{sum(ended) / len(ended):.0%}" if ended else "-"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
