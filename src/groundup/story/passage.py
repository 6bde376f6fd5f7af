"""A passage that a model has invented, to show: six lines of verse, or of prose."""

from collections.abc import Collection, Sequence

from groundup.base.errors import UserError
from groundup.chat.open_cast import TEMPERATURE
from groundup.evaluation.load import LanguageModel
from groundup.evaluation.text_generation import prompt_ids, text_engine
from groundup.generation.request import Request, Sampling

N_LINES, _MOST_LINES = 6, 9
"""Lines of invented text, and these lines with names and stage directions."""
N_SAMPLES = 16
"""Of this many samples one is shown: of those with few names between the lines the likeliest."""
_NEW_TOKENS = 160
_LINE_CHARACTERS, _VERSE_WORDS = 70, 3


def invented_lines(
    language_model: LanguageModel, first: str, cues: Collection[str], *, seed: int
) -> tuple[str, ...]:
    """Let a model write, and return the first lines of one of its samples.

    Args:
        language_model: The model.
        first: What the text begins with: the name of a speaker, or nothing.
        cues: Lines that name speakers.
        seed: Random seed.
    """
    T = language_model.model.config.context_length
    try:
        ids = prompt_ids(language_model, first)
    except UserError:  # no token begins a text
        return ()
    request = Request(
        ids=ids,
        max_new_tokens=max(1, min(_NEW_TOKENS, T - len(ids))),
        sampling=Sampling(temperature=TEMPERATURE, seed=seed),
        n=N_SAMPLES,
        stop_ids=language_model.stop_ids,
        logprobs=1,
    )
    engine = text_engine(language_model, max_rows=N_SAMPLES)
    engine.submit(request)
    texts = [first] * N_SAMPLES
    losses: list[list[float]] = [[] for _ in range(N_SAMPLES)]
    while not engine.is_idle:
        for event in engine.step():
            if event.error is not None:
                raise event.error
            texts[event.index] += event.text
            losses[event.index] += [
                -token.logprobs.drawn for token in event.tokens if token.logprobs is not None
            ]
    passages = [passage(text, cues) for text in texts]
    n_lines = [sum(_is_verse(line, cues) for line in lines) for lines in passages]
    most = max(n_lines)

    def rank(i: int) -> tuple[int, int, float]:
        return most - n_lines[i], len(passages[i]), sum(losses[i]) / max(1, len(losses[i]))

    return passages[min(range(N_SAMPLES), key=rank)]


def passage(text: str, cues: Collection[str] = ()) -> tuple[str, ...]:
    r"""Return the first lines of a text that are not empty, without its last one, which is cut off.

    >>> passage("ROMEO.\nAy me!\n\n" + "O brawling love!\n" * 9, ["ROMEO."])[:3]
    ('ROMEO.', 'Ay me!', 'O brawling love!')
    """
    text = text.replace("\N{REPLACEMENT CHARACTER}", "")
    lines = [line.strip() for line in text.split("\n")[:-1] if any(map(str.isalnum, line))]
    if len(lines) < N_LINES:  # prose
        lines = _wrapped(text.split())
    chosen: list[str] = []
    n_left = N_LINES
    for line in lines:
        if not n_left:
            break
        chosen.append(line)
        n_left -= _is_verse(line, cues)
    return tuple(chosen[:_MOST_LINES])


def _is_verse(line: str, cues: Collection[str]) -> bool:
    """Whether a line is more than a name or a stage direction."""
    return not (line in cues or line.startswith("[") or len(line.split()) < _VERSE_WORDS)


def _wrapped(words: Sequence[str]) -> list[str]:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) >= _LINE_CHARACTERS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]
