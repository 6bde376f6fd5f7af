"""The run folder: one readable, self-contained folder that is never overwritten.

    README.md  config.toml  manifest.json  log.txt  metrics.jsonl  tokenizer/
    checkpoints/step-000500/    checkpoints/best, checkpoints/latest (text files)
    samples/  evaluation/  figures/  results/  report.html

`RunFolder` is the only code that knows this layout. Nothing in it depends on the working directory
or on where the folder is, so that a run that was moved still works.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from groundup.base import config as configs
from groundup.base import files
from groundup.base.checkpoints import list_checkpoints, named_checkpoints
from groundup.base.environment import describe_environment
from groundup.base.errors import UserError
from groundup.base.log_file import log_to_file
from groundup.base.metrics import append_metrics, corrupt_metrics, read_metrics

LOCK = ".lock"
"""A file that the process that trains in a run folder holds locked."""
_MARKS = ("config.toml", "checkpoints", "metrics.jsonl")
"""A folder with any of these is a run."""
RUN_CONTENT = (
    *("checkpoints", "tokenizer", "samples", "evaluation", "figures", "results", "data", "story"),
    *("huggingface", "gguf", "nanogpt", "peft", "adapter", "tensorboard", "README.md"),
    *("config.toml", "manifest.json", "merge.json", "log.txt", "metrics.jsonl", "failure.json"),
    "report.html",
)
"""What belongs to a run; other folders inside it, such as a classifier, are runs of their own."""


def check_name(path: Path) -> None:
    """Check that a path can name a new folder: . and .. and / cannot.

    Raises:
        UserError: It cannot.
    """
    if path.name in ("", ".."):
        raise UserError(
            "This is no name for a new folder. A name such as runs/first is expected.",
            where=path,
            settings={"out": "runs/first"},
        )


def _not_created(path: Path, reason: str | None) -> UserError:
    return UserError(
        f"The run folder cannot be created ({reason}). A writable location is expected.",
        where=path,
        settings={"out": "runs/another"},
    )


class RunFolder:
    """A folder with everything that a run was made from and everything it made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path | str) -> "RunFolder":
        """Make a new run folder. If the name is taken, -2, -3, ... is appended.

        Raises:
            UserError: The location cannot be written to.
        """
        wanted = Path(path)
        check_name(wanted)
        try:
            wanted.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # a file, or a link that leads nowhere
            raise _not_created(wanted, f"{error.filename} is not a folder") from error
        except OSError as error:
            raise _not_created(wanted, error.strerror) from error
        for number in range(1, 10_000):
            folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            except OSError as error:
                raise _not_created(wanted, error.strerror) from error
            return cls(folder)
        raise UserError("There are 9,999 runs of this name. Choose another name.", where=wanted)

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Open an existing run folder, from the path of the run or of anything inside it.

        Raises:
            UserError: There is no such folder.
        """
        run = cls.of(path)
        if not (Path(path).exists() and run.path.is_dir()):
            raise UserError(
                "There is no run folder at this path. "
                "A folder made by `groundup pretrain` or `groundup story` is expected.",
                where=path,
            )
        return run

    @classmethod
    def of(cls, path: Path | str) -> "RunFolder":
        """Find the run that holds a path: a checkpoint, `checkpoints/`, any file of the run.

        The folder of a classifier or an assistant inside a run is a run of its own. A path that
        is not inside a run is taken for a run folder itself.
        """
        path = Path(path)
        for start in (path, path.resolve()):  # first as typed, which is what messages show
            for folder in () if ".." in start.parts else (start, *start.parents):
                inside = start.relative_to(folder).parts
                if inside and inside[0] not in RUN_CONTENT:
                    continue
                if any((folder / mark).exists() for mark in _MARKS):
                    return cls(folder)
        return cls(path.parent if path.is_file() else path)

    @property
    def is_run(self) -> bool:
        """Whether the folder has any of the files that make it a run."""
        return any((self.path / mark).exists() for mark in _MARKS)

    @property
    def outer(self) -> "RunFolder":
        """The run that a classifier or an assistant was fine-tuned from; other runs: itself."""
        here = self.path if self.path.name else self.path.resolve()
        parent = RunFolder(here.parent)
        inside = here.name.startswith(("classifier", "assistant", "preferred", "reinforced"))
        return parent if inside and parent.is_run else self

    @property
    def config_path(self) -> Path:
        """The complete settings; feeding the file back repeats the run."""
        return self.path / "config.toml"

    @property
    def manifest_path(self) -> Path:
        """What the run was made from, and in which environment."""
        return self.path / "manifest.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON object per step."""
        return self.path / "metrics.jsonl"

    @property
    def tokenizer(self) -> Path:
        """The folder of the run's own copy of its tokenizer."""
        return self.path / "tokenizer"

    @property
    def checkpoints_path(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """The folder of generated texts."""
        return self.path / "samples"

    @property
    def evaluation(self) -> Path:
        """The folder of evaluation results."""
        return self.path / "evaluation"

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.path / "figures"

    @property
    def huggingface(self) -> Path:
        """The folder of an export, by default."""
        return self.path / "huggingface"

    @property
    def gguf(self) -> Path:
        """The folder of GGUF files, by default."""
        return self.path / "gguf"

    @property
    def nanogpt(self) -> Path:
        """The folder of a nanoGPT checkpoint, by default."""
        return self.path / "nanogpt"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.path / "report.html"

    @property
    def failure(self) -> Path:
        """A file that states why training had to stop; the next start removes it."""
        return self.path / "failure.json"

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end."""
        try:
            return "finished_at" in self.read_manifest()
        except UserError:
            return False

    def checkpoints(self) -> list[Path]:
        """List all checkpoints, newest first, intact or not."""
        return list_checkpoints(self.checkpoints_path)

    def preferred_checkpoints(self) -> list[Path]:
        """List all checkpoints in the order in which to try them: best, latest, then backwards."""
        named = named_checkpoints(self.checkpoints_path, "best", "latest")
        return list(dict.fromkeys(named + self.checkpoints()))

    def latest(self) -> Path | None:
        """Give the checkpoint that `checkpoints/latest` names, or else the newest."""
        named = named_checkpoints(self.checkpoints_path, "latest")
        return next(iter(named + self.checkpoints()), None)

    def best(self) -> Path | None:
        """Give the checkpoint with the lowest validation loss, or else the latest."""
        return next(iter(self.preferred_checkpoints()), None)

    def data_folders(self, recorded_as: dict[str, Any] | None = None) -> list[tuple[Path, bool]]:
        """List the folders that may hold the data of the run, in the order in which to try them.

        First the path recorded at training time, then the same relative to the run folder, then a
        copy inside the run, then folders of the same name beside it.

        Args:
            recorded_as: The table that records the data. None: the manifest.

        Returns:
            Folders that exist. True: it may be used without fingerprints to compare; False: this
            is a guess, the content decides.
        """
        manifest = self.read_manifest() if recorded_as is None else recorded_as
        recorded, relative = manifest.get("data"), manifest.get("data_relative_to_run")
        name = Path(recorded).name if isinstance(recorded, str) else "data"
        here = self.path.resolve()
        places: list[tuple[Path, bool]] = []
        if isinstance(recorded, str) and Path(recorded).is_absolute():
            places.append((Path(recorded), True))
        if isinstance(relative, str):
            places.append(((here / relative).resolve(), True))
        places.append((here / "data", True))
        places += [(folder / name, False) for folder in (here.parent, here.parent.parent)]
        found: dict[Path, bool] = {}
        for place, is_known in places:
            if place.is_dir():
                found.setdefault(place, is_known)
        return list(found.items())

    def remove_left_over(self) -> None:
        """Remove the temporary files that killed processes left in this run.

        Folders inside it that are runs of their own are not touched.
        """
        files.remove_left_over(self.path / "*")
        inside = ("tokenizer", "samples", "evaluation", "figures", "results", "checkpoints")
        for name in inside:
            files.remove_left_over(self.path / name / "*")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder until the end of the block.

        Raises:
            UserError: Another process trains in it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                "Another process is training in this run folder. "
                "Wait until it ends, or choose another folder.",
                where=self.path,
                settings={"out": f"{self.path}-2"},
            ) from error
        try:
            yield
        finally:
            lock.release()

    def log_metrics(self, **values: float | int | str | None) -> dict[str, Any]:
        """Append one line to metrics.jsonl and return it; None values are left out.

        Raises:
            UserError: The disk is full or not writable.
        """
        line = {name: value for name, value in values.items() if value is not None}
        append_metrics(self.metrics_path, line)
        return line

    def read_metrics(self, names: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Read metrics.jsonl; corrupt lines, and lines without all of `names`, are skipped.

        Raises:
            UserError: The file cannot be read.
        """
        return read_metrics(self.metrics_path, names)

    def corrupt_metrics(self, names: Iterable[str] = ()) -> list[int]:
        """List the numbers of the lines of metrics.jsonl that `read_metrics` skips.

        Raises:
            UserError: The file cannot be read.
        """
        return corrupt_metrics(self.metrics_path, names)

    def read_config(self) -> dict[str, Any]:
        """Read config.toml as plain values.

        Raises:
            UserError: There is none, so this is not a run of pretrain; or it is not TOML.
        """
        if not self.config_path.is_file():
            raise UserError(
                "This is not a pretraining run: it has no config.toml. "
                "A folder made by `groundup pretrain` is expected.",
                where=self.path,
            )
        return configs.read_recipe(self.config_path)

    def write_config(self, config: Any) -> None:
        """Write the complete settings to config.toml."""
        files.write_text(self.config_path, configs.to_toml(config))

    def read_manifest(self) -> dict[str, Any]:
        """Read manifest.json; an empty mapping where there is none, or no JSON object in it.

        Raises:
            UserError: It is not valid JSON.
        """
        manifest = files.read_json(self.manifest_path) if self.manifest_path.is_file() else None
        return manifest if isinstance(manifest, dict) else {}

    @property
    def is_imported(self) -> bool:
        """Whether its weights were imported, so that their training text is not known."""
        return self.read_manifest().get("job") == "import"

    def write_manifest(self, extra: dict[str, Any]) -> None:
        """Write manifest.json: the environment, and what the caller adds."""
        files.write_json(self.manifest_path, {**describe_environment(), **extra})

    def write_readme(self, markdown: str) -> None:
        """Write the run's own README.md."""
        files.write_text(self.path / "README.md", markdown)

    def log_to_file(self) -> AbstractContextManager[None]:
        """Write the log of the package to log.txt too, until the end of the block."""
        return log_to_file(self.path / "log.txt")
