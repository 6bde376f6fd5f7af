"""`groundup story`: run all commands end to end on one text, in one run folder."""

import time
from functools import partial
from pathlib import Path

from groundup.base.errors import UserError, quoted
from groundup.cli.console import console, heading, next_command, note, warn, with_command
from groundup.cli.verbs import call
from groundup.story.config import StoryConfig
from groundup.story.folder import open_story
from groundup.story.stages import Stage, run_stages, stages_of


def run(config: StoryConfig) -> Path:
    """Run every stage; return the run folder."""
    started_at = time.monotonic()
    story = open_story(config)
    if story.is_resumed:
        note(f"Resuming the unfinished story in {story.path}/")
    run_stages(
        story,
        partial(call, must_record=True),
        on_start=partial(_show_start, n_stages=len(stages_of(config))),
        on_skip=_show_skipped,
    )
    elapsed_s = time.monotonic() - started_at
    story.finish(elapsed_s)
    console.print()
    note(f"All stages took {elapsed_s / 60:.1f} minutes. The run folder is {story.path}/")
    if config.pretrained is None:
        note(f"Open {story.path / 'report.html'} in a browser for a report with figures.")
    next_command(f"groundup chat {quoted(story.run)}")
    return story.path


def _show_start(number: int, stage: Stage, is_finished: bool, *, n_stages: int) -> None:
    if is_finished:
        note(f"{number}. {stage.title}: finished earlier")
    else:
        heading(f"{number}/{n_stages}  {stage.title}")


def _show_skipped(mistake: UserError) -> None:
    warn(f"Skipped; the story continues without this stage. {with_command(mistake)}")
