"""Chat templates of others: rendered as transformers renders them, and kept within bounds."""

import itertools
import json
import re
import threading
import time
from pathlib import Path

import pytest
from chat_templates import TEMPLATES
from peers import peer

from groundup.base.errors import UserError
from groundup.tokenizer.chat_template import ChatTemplate, read_chat_template

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TEXTS = [
    "Hello",
    " begins with a space",
    "\nwith a line feed\n",
    "日本語 😀",
    "",
    "a 'b' \"c\" \\ <&>",
]
ROLES = [
    ["user"],
    ["system", "user"],
    ["user", "assistant", "user"],
    ["user", "assistant"],
    ["user", "user"],
]
REASONING = "<think>\nso\n</think>\n\nAnswer </think> end"


def conversations() -> list[list[dict[str, str]]]:
    made = []
    for roles, start in itertools.product(ROLES, range(len(TEXTS))):
        texts = itertools.islice(itertools.cycle([*TEXTS, REASONING]), start, None)
        made.append([{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)])
    return made


@pytest.mark.parity
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_text_is_that_of_transformers(name: str) -> None:
    module = peer("transformers.utils.chat_template_utils")
    template = ChatTemplate(TEMPLATES[name], TOKENS)
    n_refused = 0
    for messages, prompt in itertools.product(conversations(), (False, True)):
        try:
            texts, _ = module.render_jinja_template(
                [messages], chat_template=template.source, add_generation_prompt=prompt, **TOKENS
            )
        except Exception as error:
            n_refused += 1
            refusal = re.escape(f"refuses the messages: {error}")
            with pytest.raises(UserError, match=refusal):
                template.render(messages, add_generation_prompt=prompt)
            continue
        assert template.render(messages, add_generation_prompt=prompt) == texts[0]
    assert n_refused < len(conversations())


def test_a_refusal_has_the_words_of_the_template() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(UserError, match="refuses the messages: roles must alternate"):
        template.render([])
    template.check()  # it can be rendered


HOSTILE = {
    "{{ lipsum.__globals__['os'].popen('id').read() }}": "lipsum",
    "{{ ''.__class__.__mro__ }}": "__class__",
    "{{ ''.__class__ }}": "__class__",
    "{{ ''['__class__'] }}": "__class__",
    "{{ ''|attr('__class__') }}": "__class__",
    "{{ cycler.__init__.__globals__ }}": "__init__",
    "{{ namespace.__init__ }}": "__init__",
    "{{ namespace(_a=1) }}": "_a",
    "{{ raise_exception.__globals__ }}": "__globals__",
    "{{ (messages|map(attribute='__class__')|list)[0] }}": "__class__",
    "{{ messages.append(1) }}": "append",
    "{% include '/etc/passwd' %}": "no loader",
    "{% for i in range(10**12) %}{% endfor %}": "Range too big",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}": "steps",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "recursion",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}": "st",
    "{{ 'x' * 10**10 }}": "characters",
    "{{ 10**10 * 'x' }}": "characters",
    "{{ [0] * 10**10 }}": "characters",
    "{{ 9 ** 99999 }}": "huge number",
    "{% set n = namespace(x='a') %}{% for i in range(99) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}": "characters",
    "{% set n = namespace(x='a') %}{% for i in range(99) %}"
    "{% set n.x = n.x + n.x %}{% endfor %}": "characters",
    "{% set n = namespace(x=9) %}{% for i in range(99) %}"
    "{% set n.x = n.x * n.x %}{% endfor %}": "huge number",
    "{% set n = namespace(x='a') %}{% for i in range(99) %}"
    "{% set n.x = n.x.replace('a', 'aa') %}{% endfor %}": "characters",
    "{% set n = namespace(x='a') %}{% for i in range(99) %}"
    "{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}{% endfor %}": "characters",
    "{% for i in range(99999) %}{{ 'y' * 4000000 }}{% endfor %}": "characters|too many texts",
    "{{ '%999999999d' % 1 }}": "pads",
    "{{ '%*d' % (999999999, 1) }}": "pads",
    "{{ '%999999999d' | format(1) }}": "pads",
    "{{ '{:>999999999}'.format(1) }}": "pads",
    "{{ '{:>{}}'.format(1, 999999999) }}": "pads",
    "{{ 'a'.ljust(10**9) }}": "pads",
    "{{ 'a' | center(10**9) }}": "center",
    "{{ [1] | batch(10**9, 0) | list }}": "batch",
    "{{ [1] | slice(10**9) | list }}": "slice",
    "{{ 'a' | indent(10**9) }}": "characters",
    "{{ ([[0] * 99999] * 999) | sum(start=[]) }}": "no number",
    "{{ [1] | tojson(indent=10**9) }}": "huge|far",
    "{{ (['x' * 999999] * 99999) | join }}": "characters",
    "{{ ','.join(['x' * 999999] * 99999) }}": "characters",
    "{% if %}": "Expected",
    "{{ 1 / 0 }}": "division",
    "{{ nothing.here }}": "undefined",
    "(" * 2**21: "characters",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}": "recursion|too complex|nested",
}


@pytest.mark.parametrize("source", HOSTILE, ids=lambda source: source[:40])
def test_what_a_template_may_not_do_ends_at_once(source: str) -> None:
    n_threads, started_at = threading.active_count(), time.thread_time()
    with pytest.raises(UserError, match=HOSTILE[source]) as caught:
        ChatTemplate(source, where=Path("a.jinja")).check()
    assert time.thread_time() - started_at < 3
    assert threading.active_count() == n_threads
    assert str(caught.value.where) == "a.jinja"


def test_long_conversations_are_within_the_bounds() -> None:
    messages = [
        {"role": "user" if turn % 2 == 0 else "assistant", "content": "word " * 2000}
        for turn in range(601)
    ]
    for name in ("chatml", "llama3", "qwen3"):
        text = ChatTemplate(TEMPLATES[name], TOKENS).render(messages)
        assert text.count("word") == 601 * 2000


def test_the_file_comes_before_the_settings_and_default_is_taken_of_several(tmp_path: Path) -> None:
    config, file = tmp_path / "tokenizer_config.json", tmp_path / "chat_template.jinja"
    assert read_chat_template(tmp_path) is None
    about = {"chat_template": "one", "bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    config.write_text(json.dumps(about))
    found = read_chat_template(tmp_path)
    assert found == ChatTemplate("one", {"bos_token": "<s>", "eos_token": "</s>"}, config)
    named = [{"name": "tool_use", "template": "two"}, {"name": "default", "template": "three"}]
    config.write_text(json.dumps(about | {"chat_template": named}))
    found = read_chat_template(tmp_path)
    assert found is not None
    assert found.source == "three"
    file.write_text("{{ bos_token }}")
    found = read_chat_template(tmp_path)
    assert found is not None
    assert found.render([]) == "<s>"
    found.save(tmp_path / "again")
    again = read_chat_template(tmp_path / "again")
    assert again is not None
    assert (again.source, again.tokens) == (found.source, found.tokens)
    config.write_text(json.dumps(about | {"chat_template": 3}))
    file.unlink()
    with pytest.raises(UserError, match="chat_template is no text"):
        read_chat_template(tmp_path)
