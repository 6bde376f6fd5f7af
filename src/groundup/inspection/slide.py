"""A page that shows the sliding window over a text, with context length, stride and batch size."""

import json
from pathlib import Path

from markupsafe import Markup

from groundup.base.files import write_text
from groundup.data.store import TokenStore
from groundup.inspection.places import check_place
from groundup.inspection.report import page_templates
from groundup.text.own_files import is_own_page
from groundup.tokenizer.files import load_tokenizer
from groundup.tokenizer.show import shown_ids

_SHOWN_TOKENS = 400


def write_windows_page(data: Path, goal: Path) -> Path:
    """Write the page for DATA/train; it is one file that needs no network.

    Raises:
        UserError: There is no token store, or the location cannot be written to.
    """
    store = TokenStore.open(data / "train")
    tokenizer = load_tokenizer(data / "tokenizer")
    ids = store.read(0, min(store.n_tokens, _SHOWN_TOKENS)).tolist()
    tokens = shown_ids(ids, tokenizer).rows()
    table = json.dumps({"tokens": tokens, "n_tokens": store.n_tokens})
    page = (
        page_templates()
        .get_template("windows.html")
        .render(
            name=str(data),
            tokens=tokens,
            n_tokens=store.n_tokens,
            # JSON inside a script element: no text may close it.
            data=Markup(table.replace("<", "\\u003c")),
        )
    )
    check_place(goal, ".html", "page", is_own_page)
    write_text(goal, page)
    return goal
