"""The command line: a table of verbs in roadmap order, and what happens around each of them.

Help is built from the source of the config classes (`base/config.py: describe`), so it answers
without importing torch; a verb's room is imported only when the verb runs.
"""

import argparse
import atexit
import gc
import importlib
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from groundup.base import config as configs
from groundup.base.errors import UserError
from groundup.cli.verbs import VERBS, Verb, call


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; give the exit status (0 done, 1 a user's mistake, 130 interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        print(f"groundup {_version()}")
        return 0
    from groundup.cli import console

    console.typed[:] = arguments
    # The library's calmer words go to a run's log.txt; the screen is the views' own.
    logging.getLogger("groundup").setLevel(logging.INFO)
    screen = logging.StreamHandler()
    screen.setLevel(logging.WARNING)
    logging.basicConfig(handlers=[screen], format="%(levelname)s: %(message)s")
    # torchrun starts several of us: the first one talks.
    console.console.quiet = int(os.environ.get("RANK", "0")) > 0
    try:
        with _no_interrupt():
            verb = _find(arguments[0])
            options = vars(_parser(verb).parse_args(arguments[1:]))
            config = _build_config(verb, options)
            importlib.import_module(verb.view.split(":")[0])
        call(verb.name, config)
    except UserError as mistake:
        console.error(mistake)
        return 1
    except KeyboardInterrupt:
        words = shlex.join(["groundup", *arguments])
        print(f"\nStopped. Nothing is lost; the same command goes on: {words}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return 0


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block: imports swallow it, or are left in halves."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, or somebody else's
        yield
        return
    asked: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def _overview() -> str:
    lines = [
        "groundup: from raw text to a language model that answers, on the machine you have.",
        "",
    ]
    lines += ["usage: groundup VERB [OPTIONS]      groundup VERB --help tells each option", ""]
    stage = ""
    for verb in VERBS:
        if verb.stage != stage:
            stage = verb.stage
            lines.append(f"{stage}:")
        lines.append(f"  {verb.name:<16} {verb.help}")
    return "\n".join(
        [*lines, "", "start here:  groundup story            (or: groundup story my.txt)"]
    )


def _find(name: str) -> Verb:
    for verb in VERBS:
        if verb.name == name:
            return verb
    import difflib

    names = [verb.name for verb in VERBS]
    nearest = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    raise UserError(
        f"there is no verb {name!r}",
        need=" or ".join(nearest) if nearest else "one of " + ", ".join(names),
        type_this="groundup --help",
    )


_RECIPE = "TOML file, also without --recipe in the first place; the command line goes over it"


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are like all others, with the nearest option named."""

    def error(self, message: str) -> NoReturn:
        import difflib

        unknown = [word for word in message.split() if word.startswith("--")]
        known = [name for action in self._actions for name in action.option_strings]
        first = [f"--{action.dest}" for action in self._actions if not action.option_strings]
        if unknown and unknown[0] in first:
            raise UserError(
                f"{self.prog}: {unknown[0][2:]} goes first, without {unknown[0]} before it",
                type_this=f"{self.prog} --help",
            )
        nearest = difflib.get_close_matches(unknown[0], known, n=1) if unknown else []
        raise UserError(
            f"{self.prog}: {message}",
            need=nearest[0] if nearest else "",
            type_this=f"{self.prog} --help",
        )


def _parser(verb: Verb) -> argparse.ArgumentParser:
    from rich_argparse import RawDescriptionRichHelpFormatter

    parser = _Parser(
        prog=f"groundup {verb.name}",
        description=f"{verb.help[0].upper()}{verb.help[1:]} (stage: {verb.stage}).",
        formatter_class=RawDescriptionRichHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--recipe", metavar="FILE", help=_RECIPE)
    for field in configs.describe(verb.config):
        many = field.annotation.startswith("tuple")
        text = field.help.replace("%", "%%")
        if field.leaf == verb.positional:
            parser.add_argument(
                ".".join(field.path),
                metavar=field.leaf.upper(),
                nargs="*" if many else "?",
                help=text,
            )
            continue
        if field.default not in ("None", "()", ""):
            text += f" (default: {_plain(field.default)})"
        name = "--" + field.leaf.replace("_", "-")
        names = ["-o", name] if name == "--out" else [name]
        keywords: dict[str, Any] = {"dest": ".".join(field.path), "help": text}
        if field.annotation == "bool":
            parser.add_argument(*names, action=argparse.BooleanOptionalAction, **keywords)
            continue
        metavar = "|".join(field.choices) if field.choices else _metavar(field.annotation)
        nargs = "+" if many else None
        parser.add_argument(*names, metavar=metavar, nargs=nargs, **keywords)
    return parser


def _build_config(verb: Verb, options: dict[str, Any]) -> Any:
    mapping: dict[str, Any] = {}
    recipe = options.pop("recipe", None)
    if verb.positional and str(options.get(verb.positional)).endswith(".toml"):
        recipe = options.pop(verb.positional)  # groundup pretrain recipe.toml
    if recipe is not None:
        mapping = configs.read_recipe(recipe)
    for path, value in options.items():
        if value == []:
            continue
        table: dict[str, Any] = {}
        *tables, leaf = path.split(".")
        inner = table
        for name in tables:
            inner = inner.setdefault(name, {})
        inner[leaf] = value
        mapping = configs.merge(mapping, table)
    module_name, class_name = verb.config.split(":")
    cls = getattr(importlib.import_module(module_name), class_name)
    return configs.from_mapping(cls, mapping, where=recipe or f"groundup {verb.name}")


def _plain(default: str) -> str:
    if default.startswith("Path("):
        default = default[5:-1]
    return default.strip("'\"").replace("%", "%%")


def _metavar(annotation: str) -> str:
    kinds = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH"}
    first = annotation.split("|")[0].strip()
    return kinds.get(first, "VALUE")


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("groundup")


def script() -> None:
    """Be the console script: start and leave without the second that Python's memory would take.

    Importing torch makes hundreds of thousands of objects. To look for garbage among them is in
    vain, so that waits until `call` has imported all; and at the end the system frees them at once,
    where Python would take down each.
    """
    gc.disable()
    statuses: list[int] = []

    def leave() -> None:
        for status in statuses:  # none after an exception: then Python has to tell of it
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    atexit.register(leave)  # the first to be registered runs last
    statuses.append(main())
    sys.exit(statuses[0])


if __name__ == "__main__":
    script()
