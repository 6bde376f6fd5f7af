"""The page in Chromium: by keyboard alone, with hostile text, and at three widths."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import browser
from page_server import serving, small_served
from peers import peer

from groundup.chat.cast import Cast
from groundup.generation.engine import Event, Handle
from groundup.generation.request import Request
from groundup.generation.sampler import Token, TokenLogprobs
from groundup.serve import inspect
from groundup.serve.admission import Busy
from groundup.serve.security import Access
from groundup.serve.served_model import ServedModel
from groundup.serve.worker import Worker

pytestmark = pytest.mark.slow
HOSTILE = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'
CHECK = """() => {
  const outside = [], faint = [];
  const numbers = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+(e-\\d+)?/g).map(Number);
    return text.startsWith("color(srgb") ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((x, i) => a * x + (1 - a) * below[i]);
  const luminance = color => {
    const [r, g, b] = color.map(x => {
      x /= 255;
      return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = node => {
    if (!node) return [255, 255, 255];
    const own = numbers(getComputedStyle(node).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, background(node.parentElement));
  };
  const parts = "header *, #composer *, .message, .message *, #card, #card *, .open, h2";
  for (const node of document.querySelectorAll(parts)) {
    const box = node.getBoundingClientRect(), style = getComputedStyle(node);
    if (!box.width || style.visibility === "hidden" || node.closest(".hidden, option")) continue;
    const isInside = box.left > -0.5 && box.right < innerWidth + 0.5;
    if (!isInside) outside.push([node.outerHTML.slice(0, 80), box.right]);
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walker.nextNode());) {
    const node = text.parentElement;
    const isSeen = node.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    if (!text.data.trim() || !isSeen || node.closest(".hidden, .skip, option")) continue;
    const below = background(node);
    const both = [luminance(over(numbers(getComputedStyle(node).color), below)), luminance(below)];
    const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (contrast < 4.5) faint.push([text.data.slice(0, 30), node.className, contrast]);
  }
  if (document.documentElement.scrollWidth > innerWidth) outside.push("the page");
  return { outside, faint };
}"""


@contextmanager
def chromium() -> Iterator[Any]:
    with peer("playwright.sync_api").sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        found = playwright.chromium.launch(executable_path=browser(), args=options)
        yield found
        found.close()


@contextmanager
def opened(served: ServedModel, **settings: Any) -> Iterator[Any]:
    """The page of a model; nothing may go wrong in its scripts."""
    with serving(served) as url, chromium() as found:
        page = found.new_page(**settings)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: line.type == "error" and problems.append(line.text))
        page.set_default_timeout(20_000)
        page.goto(url)
        page.wait_for_selector(".welcome")
        yield page
        meant = ("the server responded with a status of 4", "requires 'TrustedHTML'")
        assert [each for each in problems if not any(word in each for word in meant)] == []


def focused(page: Any, script: str) -> Any:
    return page.evaluate(f"(node => {script})(document.activeElement)")


def tab_to(page: Any, selector: str, key: str = "Tab") -> None:
    """Press Tab until an element has the focus, which it shows."""
    for _ in range(40):
        page.keyboard.press(key)
        if focused(page, f"node.matches({json.dumps(selector)})"):
            assert focused(page, "getComputedStyle(node).outlineStyle") == "solid"
            return
    pytest.fail(f"Tab does not come to {selector}.")


def answered(page: Any) -> None:
    page.wait_for_selector(".model .facts")
    page.wait_for_selector("#send")


def test_everything_works_by_keyboard(tmp_path: Path) -> None:
    served = small_served(tmp_path, can_chat=True)
    with opened(served, viewport={"width": 1440, "height": 900}) as page:
        bodies: list[Any] = []
        page.on("request", lambda r: bodies.append(r.post_data_json) if r.post_data else None)
        press = page.keyboard.press
        assert focused(page, "node.id") == "line"
        tab_to(page, "#sampler label:nth-of-type(5) input")
        page.keyboard.type("3")
        press("Tab")
        press("Control+a")
        page.keyboard.type("9")
        tab_to(page, "#line", "Shift+Tab")
        page.keyboard.type("the cat")
        press("Enter")
        answered(page)
        assert (bodies[-1]["max_new_tokens"], bodies[-1]["seed"]) == (9, 3)
        assert bodies[-1]["turns"] == [{"role": "user", "text": "the cat"}]
        texts = page.locator(".t").all_text_contents()

        tab_to(page, ".t", "Shift+Tab")
        press("Home")
        press("ArrowRight")
        assert focused(page, "[...document.querySelectorAll('.t')].indexOf(node)") == 1
        assert " bits" in page.text_content("#status")
        press("Enter")
        assert focused(page, "node.closest('#card') !== null")
        press("ArrowDown")
        press("Escape")
        assert page.is_hidden("#card")
        assert focused(page, "[...document.querySelectorAll('.t')].indexOf(node)") == 1
        press("Enter")
        alternative = focused(page, "node.querySelector('code').textContent")
        press("Enter")
        page.wait_for_selector("text=2/2")
        answered(page)
        assert len(bodies[-1]["answer"]) == 2
        assert bodies[-1]["prompt"] == [277, *served.tokenizer.encode("the cat"), 279, 278]
        branch = page.locator(".t").all_text_contents()
        assert branch[0] == texts[0]
        assert branch[1].replace(" ", "·") == alternative.replace("⏎", "") or "⟨" in alternative
        assert page.locator(".t.branch").count() == 1

        tab_to(page, "button[aria-label^=Previous]", "Shift+Tab")
        press("Enter")
        assert page.text_content(".switcher").strip("‹›") == "1/2"
        assert page.locator(".t").all_text_contents() == texts

        tab_to(page, ".t", "Shift+Tab")
        press("Enter")
        press("End")
        press("Enter")
        page.wait_for_selector(".lens")
        assert focused(page, "node.matches('.t.looked')")
        first = page.locator(".lens tbody tr").first.text_content()
        assert first.startswith("model")
        assert page.text_content("#look .head span") in first
        tab_to(page, ".heads td")
        cell = focused(page, "node.getAttribute('aria-label')")
        press("ArrowDown" if "head 3" not in cell else "ArrowUp")
        assert focused(page, "node.getAttribute('aria-selected')") == "true"
        assert focused(page, "node.getAttribute('aria-label')") != cell

        tab_to(page, "#line", "Shift+Tab")
        tab_to(page, ".user .actions button", "Shift+Tab")
        press("Enter")
        assert focused(page, "node.tagName") == "TEXTAREA"
        press("Escape")
        assert focused(page, "node.textContent") == "Edit"
        press("Enter")
        press("Control+a")
        page.keyboard.type("the dog")
        press("Enter")
        page.wait_for_selector(".user .switcher >> text=2/2")
        answered(page)
        assert bodies[-1]["turns"] == [{"role": "user", "text": "the dog"}]

        page.reload()
        page.wait_for_selector(".user .switcher >> text=2/2")
        assert page.text_content(".user .said") == "the dog"


class Scripted(Worker):
    """Says what it is told, slowly, and knows when the client has left."""

    def __init__(self, worker: Worker, ids: list[int]) -> None:
        super().__init__(worker.engine)
        self.ids, self.has_left, self.is_busy = ids, False, False

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        if self.is_busy:
            raise Busy("The server is full. Try again in a moment.", retry_after_s=1)
        try:
            for index in [*self.ids, *self.ids]:
                token = Token(index, TokenLogprobs(-9.0, ((index, -9.0), (65, -0.1))))
                yield Event(Handle(request, ()), 0, (token,), "", None)
                await asyncio.sleep(0.04)
        finally:
            self.has_left = True


def test_hostile_text_is_text_and_errors_are_sentences(tmp_path: Path) -> None:
    small = small_served(tmp_path, can_chat=True, name=HOSTILE)
    worker = Scripted(small.worker, small.tokenizer.encode(HOSTILE))
    served = ServedModel(name=HOSTILE, model=small.model, worker=worker)
    with opened(served) as page:
        page.click("#surprise")
        page.fill("#line", HOSTILE)
        page.press("#line", "Enter")
        page.wait_for_selector(f".t >> nth={len(worker.ids)}")
        page.keyboard.press("Escape")
        answered(page)
        assert "stopped" in page.text_content(".model .facts")
        page.wait_for_timeout(200)
        assert worker.has_left
        assert page.text_content(".user .said") == HOSTILE
        assert page.text_content(".tokens").startswith(HOSTILE)
        assert page.text_content("#name") == HOSTILE
        page.hover(".t >> nth=3")
        page.wait_for_selector("#card button")
        assert page.evaluate("window.hacked ?? 0") == 0
        assert page.locator("img").count() == 0
        insert = "() => { try { document.body.innerHTML = 'a' } catch (error) { return 1 } }"
        assert page.evaluate(insert) == 1  # the policy refuses text as HTML

        page.mouse.move(0, 0)
        page.wait_for_selector("#card", state="hidden")

        worker.is_busy = True
        page.click("text=Regenerate")
        page.wait_for_selector(".error >> text=The server is full. Try again in a moment.")
        page.fill("#sampler input >> nth=0", "-1")
        page.click("button >> text=Try again")
        page.wait_for_selector(".error >> text=temperature is -1")


COPIED = """document.addEventListener("copy", () => {
  window.copied = document.activeElement.value;
});"""
GRANTED = """navigator.clipboard.writeText = async text => { window.copied = text; };"""
REFUSED = """navigator.clipboard.writeText = () => Promise.reject(new Error("refused"));"""
MISSING = """Object.defineProperty(navigator, "clipboard", { value: undefined });"""
NO_COPY = """document.execCommand = () => false;"""


def test_an_answer_is_copied_with_and_without_a_clipboard(tmp_path: Path) -> None:
    with opened(small_served(tmp_path, can_chat=True)) as page:
        page.fill("#sampler input >> nth=0", "0")  # the temperature: always the same answer
        page.fill("#line", "the cat")
        page.press("#line", "Enter")
        answered(page)
        page.evaluate(COPIED)
        copied = []
        for browser_is in (GRANTED, REFUSED, MISSING):
            page.evaluate(f"() => {{ window.copied = null; {browser_is} }}")
            page.evaluate("document.getElementById('status').textContent = ''")
            page.click(".actions button >> text=/Cop/")
            page.wait_for_selector("#status >> text=Copied.", state="attached")
            copied.append(page.evaluate("window.copied"))
            assert focused(page, "node.textContent") == "Copied"
        assert copied[0]
        assert copied == copied[:1] * 3
        page.evaluate(f"() => {{ {NO_COPY} }}")
        page.click(".actions button >> text=Copied")
        page.wait_for_selector(".actions button >> text=Not copied")


def test_another_character_begins_a_scene_and_a_key_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partners = {"A.": "B.", "B.": "A.", "C.": "A."}
    cast = Cast(cues=tuple(partners), partners=partners)
    monkeypatch.setattr(inspect, "cast_of", lambda path: cast)
    with opened(small_served(tmp_path, can_chat=False)) as page:
        bodies: list[Any] = []
        page.on("request", lambda r: bodies.append(r.post_data_json) if r.post_data else None)

        def say(text: str) -> Any:
            page.fill("#line", text)
            page.press("#line", "Enter")
            answered(page)
            return bodies[-1]

        page.fill("#sampler label:nth-of-type(6) input", "2")
        assert say("the cat")["character"] == "A"
        assert len(say("sat")["turns"]) == 3
        page.select_option("#character", "C")
        asked = say("the dog")
        assert (asked["character"], len(asked["turns"])) == ("C", 1)
        page.reload()
        page.wait_for_selector(".model")
        assert len(say("on the mat")["turns"]) == 3
        page.click(".user .switcher >> text=‹")
        assert len(say("on the log")["turns"]) == 5
        assert bodies[-1]["character"] == "A"

        error = json.dumps({"error": {"message": "The key is wrong.", "code": "invalid_api_key"}})
        page.route("**/page/answer", lambda route: route.fulfill(status=401, body=error))
        page.fill("#line", "and")
        page.press("#line", "Enter")
        page.fill("input[type=password]", "a key")
        page.unroute("**/page/answer")
        page.press("input[type=password]", "Enter")
        page.click(".model:last-child >> text=Try again")
        answered(page)
        assert len(bodies[-1]["turns"]) == 7
        assert page.locator(".error").count() == 0


def test_the_form_says_what_is_wrong_with_a_key(tmp_path: Path) -> None:
    served = small_served(tmp_path, can_chat=True)
    with serving(served, Access(api_key="long enough")) as url, chromium() as found:
        page = found.new_page()
        page.set_default_timeout(20_000)
        page.goto(url)
        page.wait_for_selector("input[type=password]")
        assert page.is_hidden(".error")
        for key, problem in (
            ("another", "The key is wrong."),
            ("naïve", "The key has other characters than ASCII"),
            ("ключ", "The key has other characters than ASCII"),
        ):
            page.fill("input[type=password]", key)
            page.press("input[type=password]", "Enter")
            page.wait_for_selector(f".error >> text={problem}")
        page.fill("input[type=password]", "long enough")
        page.press("input[type=password]", "Enter")
        page.wait_for_selector(".welcome")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read_at_three_widths(tmp_path: Path, scheme: str) -> None:
    with opened(small_served(tmp_path, can_chat=True), color_scheme=scheme) as page:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.fill("#sampler label:nth-of-type(5) input", "3")  # the seed: an answer of many tokens
        for width in (1440, 820, 390):
            page.set_viewport_size({"width": width, "height": 844})
            nothing: dict[str, Any] = {"outside": [], "faint": []}
            page.click("#new")
            assert page.evaluate(CHECK) == nothing, width
            page.fill("#line", "the cat sat on the mat " * 2)
            page.press("#line", "Enter")
            answered(page)
            assert page.locator(".t:visible").count() > 3
            if width == 1440:
                page.click("#surprise")
            page.click(".t:visible >> nth=1")  # not a combining character alone
            page.wait_for_selector("#card button")
            assert page.evaluate(CHECK) == nothing, width
            page.click("#card >> text=Look inside")
            page.wait_for_selector("#look[aria-busy=false] .lens")
            assert page.evaluate(CHECK) == nothing, width
            page.click("#close") if width < 1100 else None
