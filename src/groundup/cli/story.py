"""`groundup story`: run all commands end to end on one text, in one run folder."""

import time
from functools import partial
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.cli.console import heading, next_command, note, style, warn, with_command
from groundup.cli.ending_view import ending_lines, minutes
from groundup.cli.verbs import call
from groundup.story.config import StoryConfig
from groundup.story.ending import end_story
from groundup.story.folder import open_story
from groundup.story.stages import Stage, run_stages, stages_of


def run(config: StoryConfig) -> Path:
    """Run every stage; return the run folder."""
    started_at = time.monotonic()
    story = open_story(config)
    if story.is_resumed:
        note(f"Resuming the unfinished story in {story.path}/")
    style.is_brief = not config.verbose
    try:
        run_stages(
            story,
            partial(call, must_record=True),
            on_start=partial(_show_start, n_stages=len(stages_of(config))),
            on_skip=_show_skipped,
        )
    finally:
        style.is_brief = False
    elapsed_s = time.monotonic() - started_at
    if config.pretrained is not None:
        story.finish(elapsed_s)
        taken = "" if story.is_resumed else f"All stages took {minutes(elapsed_s)}. "
        note(f"\n{taken}The run folder is {story.path}/")
        has_answer = "chat" in story.results()
    else:
        heading("result")
        ending = end_story(story, elapsed_s)
        for line in ending_lines(ending):
            note(line)
        note(f"\nReport, for a browser: {story.path / 'report.html'}")
        has_answer = ending.exchange is not None
    # Without an answer there is nobody to talk to.
    next_command(f"groundup {'chat' if has_answer else 'generate'} {quoted(story.run)}")
    return story.path


def _show_start(number: int, stage: Stage, is_finished: bool, *, n_stages: int) -> None:
    if is_finished:
        note(f"{number}. {stage.title}: finished earlier")
    else:
        heading(f"{number}/{n_stages}  {stage.title}")
        if stage.verb == "plan":
            note("Trying models of several sizes on this machine ...")


def _show_skipped(mistake: UserError) -> None:
    warn(f"Skipped; the story continues without this stage. {with_command(mistake)}")
