"""The settings of `evaluate` and `generate`. This file loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from groundup.base.errors import UsageError
from groundup.base.fields import Config, changed_settings
from groundup.base.kinds import Count, Device, Fraction, NotNegative, Positive, Whole
from groundup.evaluation.task_config import TaskConfig

Penalty = Annotated[float, Ge(-100), Le(100)]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Config):
    """Settings of `evaluate`: the loss of a run beside two baselines, or its answers to a task."""

    run: Path | None = None
    """Run folder, or one of its checkpoints. Without it, the newest run in runs/."""
    data: Path | None = None
    """Data folder with train/ and validation/ token stores, or for a task with the training set.
    None: the data of the run."""
    batch_size: Count = 16
    """Number of sequences per batch. The result does not depend on it."""
    context_length: Count | None = None
    """Number of tokens that the model sees at once. None: the context length of the model."""
    stride: Count | None = None
    """Tokens between the starts of two windows. A smaller number gives each token more context.
    None: the context length."""
    documents: Literal["stream", "isolated", "packed", "padded"] | None = None
    """How windows hold documents, as for pretraining. Where they are separate, the first token of a
    document is not predicted. None: as the run was trained."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the weights for a task. Without a task, generation in this format is also
    compared with float32."""
    quantize: Literal["int8", "file"] | None = None
    """Weights in fewer bits for a task: int8, or the blocks of the GGUF file that was imported.
    Without a task, generation with them is also compared with float32. None disables it."""
    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
    recitations: Count | None = None
    """Measure memorization instead: number of passages of the training and validation set that the
    model is to continue word for word."""
    canary: tuple[str, ...] = ()
    """Measure memorization instead: text with a secret number, which is compared with other
    numbers. Several may be given."""
    context: bool = False
    """Measure the use of the context instead: the loss of the same tokens with 256, 512, ... tokens
    before them, and that of passages that the model has read before."""
    needle: Count | None = None
    """Measure retrieval instead: names with values at ten depths of a text of this many tokens, of
    which the model is to tell the values at its end."""
    tasks: TaskConfig = TaskConfig()  # noqa: RUF009 (frozen)
    """The items of a task."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = sorted(changed_settings(self.tasks))
        if self.tasks.task is None and given:
            raise UsageError(
                f"{given[0]} is a setting of a task, and there is no task. A file of items is "
                "expected.",
                settings={"task": "quiz.jsonl"},
            )
        kinds = {
            "a task is given": self.tasks.task is not None,
            "memorization is to be measured": self.recitations is not None or bool(self.canary),
            "the use of the context is to be measured": self.context,
            "retrieval is to be measured": self.needle is not None,
        }
        asked = [kind for kind, is_asked in kinds.items() if is_asked]
        if len(asked) > 1:
            raise UsageError(
                f"{asked[0][0].upper()}{asked[0][1:]}, and {asked[1]}. Only one of them is "
                "expected."
            )


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(Config):
    """Settings of `generate`: let a trained model continue a text."""

    run: Path | None = None
    """Run folder, or one of its checkpoints. Without it, the newest run in runs/."""
    prompt: str = ""
    """Text to continue. Empty: the first words of the validation set."""
    max_new_tokens: Count = 80
    """Maximum length of a sample, in tokens."""
    temperature: NotNegative = 0.8
    """Sampling temperature. 0: always the most likely token."""
    top_k: Count | None = None
    """Sample from this many most likely tokens only. None: from all."""
    top_p: Annotated[float, Gt(0), Le(1)] | None = 0.95
    """Sample from the most likely tokens that together have this probability. None: from all."""
    min_p: Fraction | None = None
    """Sample from tokens with at least this share of the largest probability. None: from all."""
    repetition_penalty: Positive = 1.0
    """Factor that makes tokens of the prompt and the sample less likely. 1 disables it."""
    presence_penalty: Penalty = 0.0
    """Subtracted from the logits of tokens that the sample has. 0 disables it."""
    frequency_penalty: Penalty = 0.0
    """Subtracted from the logits of tokens once for each time the sample has them. 0 disables
    it."""
    logit_bias: tuple[str, ...] = ()
    """Number to add to the logit of a token, as ID=NUMBER. Several may be given."""
    stop: tuple[str, ...] = ()
    """Text that ends a sample and is not part of it. Several may be given."""
    choices: tuple[str, ...] = ()
    """Texts of which each sample is one, separated by commas."""
    json_schema: Path | None = None
    """File with a JSON schema that each sample follows. None: any text."""
    logprobs: Annotated[int, Ge(1), Le(20)] | None = None
    """Number of most likely tokens to list at each position. None disables it."""
    seed: Whole = 0
    """Random seed of the first sample. Each further sample adds 1."""
    samples: Count = 3
    """Number of samples. A greedy one is generated before them."""
    prompt_lookup: bool = False
    """Guess tokens by copying from the text so far, which is faster where the text repeats itself.
    The samples are the same."""
    deterministic: bool = False
    """Compute the same bits for a sample alone and beside others. It is slower."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and products. bfloat16 is faster, and changes the samples."""
    quantize: Literal["int8", "file"] | None = None
    """Store weights in fewer bits: int8, or the blocks of the GGUF file that was imported. None
    disables it."""
    device: Device = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (untested). auto takes a GPU if there is one."""
