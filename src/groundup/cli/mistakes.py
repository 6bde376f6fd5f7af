"""Mistakes on the command line, as errors that name what was meant."""

from collections.abc import Iterable, Sequence

from cyclopts import (
    ArgumentOrderError,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from groundup.base.config import CONVERTED, RENAMED
from groundup.base.errors import UserError
from groundup.base.kinds import Kind
from groundup.cli.verbs import VERBS

_OTHER_NAMES = {
    "--batch-size": """--batch --bs --per-device-train-batch-size --per-device-eval-batch-size
        --per-gpu-train-batch-size --train-batch-size --eval-batch-size --global-batch-size
        --batchsize --minibatch-size""",
    "--context-length": """--block-size --context --context-size --ctx-len --max-length
        --max-seq-len --max-seq-length --max-position-embeddings --n-ctx --n-positions --seq-len
        --seq-length --sequence-len --sequence-length --seqlen --cutoff-len""",
    "--max-tokens": "--max-length --max-seq-len --max-seq-length --seq-len --truncation",
    "--max-new-tokens": "--max-tokens --max-length --n-predict --num-tokens --length",
    "--n-heads": "--attention-heads --n-head --num-heads --num-attention-heads --heads",
    "--n-kv-heads": "--n-kv-head --num-kv-heads --num-key-value-heads --n-query-groups",
    "--n-layers": "--layers --n-layer --num-layers --num-hidden-layers --depth",
    "--d-model": """--emb-dim --embed-dim --embedding-size --hidden-dim --hidden-size --n-embd
        --width --dim""",
    "--d-ff": "--intermediate-size --ffn-dim --ff-dim --n-inner --mlp-dim",
    "--d-head": "--head-dim --head-size --kv-channels",
    "--dropout": "--dropout-rate --drop-rate --attn-dropout --resid-pdrop --embd-pdrop",
    "--norm-eps": "--layer-norm-eps --layer-norm-epsilon --rms-norm-eps",
    "--rotary-base": "--rope-theta --rope-base",
    "--activation": "--hidden-act --activation-function --act",
    "--tie-embeddings": "--tie-weights --tie-word-embeddings --tied",
    "--learning-rate": "--lr --max-lr --peak-lr --base-lr",
    "--embedding-learning-rate": "--embedding-lr --emb-lr",
    "--decay-frac": "--lr-decay-iters",
    "--schedule": "--lr-schedule --lr-scheduler --lr-scheduler-type --scheduler --decay-lr",
    "--final-frac": "--min-lr --min-lr-ratio",
    "--adam-beta1": "--beta1 --betas",
    "--adam-beta2": "--beta2",
    "--adam-eps": "--eps --epsilon --adam-epsilon",
    "--warmup-steps": "--warmup --warmup-iters --num-warmup-steps --lr-warmup-steps --warmup-ratio",
    "--weight-decay": "--wd --l2",
    "--max-grad-norm": "--clip --grad-clip --gradient-clip --gradient-clip-val --clip-grad "
    "--clip-grad-norm --gradient-clipping --max-norm",
    "--optimizer": "--optim --opt",
    "--steps": """--iters --iterations --max-iters --max-steps --num-steps --n-steps --train-steps
        --num-train-steps --num-iterations""",
    "--budget": "--time --max-time --minutes --duration",
    "--train-time": "--time --max-time --duration",
    "--documents": """--packing --sample-packing --document-mask --intra-document-mask
        --reset-attention-mask --reset-position-ids --padding-free""",
    "--mix": "--data-mix --mixture --data-weights --dataset-weights --interleave-probs",
    "--validate-every": """--eval-every --eval-interval --eval-steps --val-every --val-interval
        --val-check-interval --evaluation-strategy --eval-strategy""",
    "--validation-windows": "--eval-iters --eval-batches --limit-val-batches --eval-tokens",
    "--validation-frac": """--val-frac --val-split --val-set-size --val-size --validation-split
        --test-size --valid-size --test-split""",
    "--test-frac": """--test-size --test-split --val-frac --val-split --val-set-size
        --validation-split --validation-frac""",
    "--checkpoint-every": "--save-every --save-interval --save-steps --checkpoint-interval",
    "--keep-checkpoints": "--save-total-limit --keep-last --max-checkpoints",
    "--sample-every": "--sample-interval --generate-every",
    "--tensorboard": "--log-dir --logging-dir --report-to --wandb --wandb-log --wandb-project",
    "--dtype": "--fp16 --bf16 --amp --precision --mixed-precision --torch-dtype --half --tf32",
    "--grad-accumulation-steps": """--accumulation-steps --accumulate-grad-batches --grad-accum
        --gradient-accumulation --gradient-accumulation-steps --grad-accum-steps
        --micro-batch-size --micro-batches""",
    "--activation-checkpointing": """--checkpointing --gradient-checkpointing --grad-checkpoint
        --remat""",
    "--compile": "--torch-compile",
    "--parallel": "--fsdp --ddp --strategy --deepspeed --distributed",
    "--threads": "--num-threads --n-threads --num-workers --workers --cpus",
    "--device": "--devices --accelerator",
    "--lora-rank": "--lora-r --lora-dim --rank",
    "--out": """--output --output-dir --output-path --out-dir --save-dir --save-path --outfile
        --destination""",
    "--data": "--data-dir --data-path --dataset --dataset-dir --dataset-name --dataset-path",
    "--run": "--checkpoint-dir --ckpt --checkpoint --model-path --model-name-or-path --model "
    "--base-model --run-dir --init-from",
    "--sources": "--input --input-file --files --train-file --text-file --data --dataset",
    "--labels": "--train-file --data-file --dataset --csv --examples",
    "--records": "--train-file --data-file --dataset --examples --instructions",
    "--text-field": "--text-column --text-col --text-key --json-key --column",
    "--label-column": "--label-field --label-col --label-key",
    "--n-classes": "--num-classes --num-labels --n-labels --classes",
    "--prompt": "--start --input --input-text --text --question",
    "--ask": "--prompt --question --message --input",
    "--text": "--prompt --input --sentence",
    "--samples": "--num-samples --num-return-sequences --n-samples --num-generations",
    "--temperature": "--temp --do-sample",
    "--top-k": "--topk",
    "--top-p": "--topp --nucleus",
    "--min-p": "--minp",
    "--repetition-penalty": "--repeat-penalty --rep-pen --repeat-last-n",
    "--stop": "--stop-strings --stop-sequences --stop-sequence --reverse-prompt",
    "--logprobs": "--n-probs --top-logprobs --log-probs --output-scores",
    "--choices": "--guided-choice --options",
    "--json-schema": "--guided-json --schema --grammar --response-format",
    "--prompt-lookup": "--prompt-lookup-num-tokens --speculative --draft --lookup",
    "--quantize": "--quantization --load-in-8bit --load-in-4bit --quant --bits",
    "--seed": "--random-seed --random-state --manual-seed",
    "--vocab-size": "--vocab --n-vocab --num-merges",
    "--kind": "--tokenizer-type --type --model-type --algorithm",
    "--pattern": "--pre-tokenizer --regex --split-pattern",
    "--from-format": "--from --input-format --reads",
    "--to-format": "--to --output-format --writes --format",
    "--overwrite": "--force --replace --yes",
    "--config": "--recipe-file --config-file --yaml --toml",
}
"""What other tools call our options, the most usual tools first; a name may mean several."""
_EPOCHS = (
    "The length of a run is set in optimizer steps, with --steps. `groundup plan` prints how many "
    "epochs they are."
)
_GPU = "A GPU is used if there is one. Choose with --device cuda or --device cpu."
_LOG = "Every step is logged to metrics.jsonl in the run folder."
_EXPLAINED = {
    "--resume": "A run is resumed by the same command: type it again with the same --out.",
    "--resume-from-checkpoint": "A run is resumed by the same command, with the same --out.",
    "--epochs": _EPOCHS,
    "--max-epochs": _EPOCHS,
    "--n-epochs": _EPOCHS,
    "--num-epochs": _EPOCHS,
    "--num-train-epochs": _EPOCHS,
    "--vocab-size": "The vocabulary is that of the tokenizer: `groundup train-tokenizer` sets it.",
    "--gpu": _GPU,
    "--gpus": _GPU,
    "--cuda": _GPU,
    "--use-cuda": _GPU,
    "--cpu": "Choose with --device cpu.",
    "--no-cuda": "Choose with --device cpu.",
    "--mps": "Choose with --device mps.",
    "--log-every": _LOG,
    "--log-interval": _LOG,
    "--logging-steps": _LOG,
    "--eval-only": "A trained model is measured by `groundup evaluate`.",
    "--do-train": "A model is trained by `groundup pretrain`.",
    "--do-eval": "A trained model is measured by `groundup evaluate`.",
    "--use-lora": "LoRA is an option of classify, instruct and prefer: see their --help.",
    "--nproc-per-node": "Start several processes with torchrun: torchrun --nproc-per-node 2 -m "
    "groundup pretrain.",
    "--verbose": "log.txt in the run folder has all messages.",
    "--num-beams": "Beam search is not available. Choose with --temperature, --top-k and --top-p.",
    "--stop": "A text ends at the end-of-text token, or after --max-new-tokens.",
}
"""What is done without an option."""


_OTHER_COMMANDS = {
    "train": "pretrain",
    "run": "story",
    "quickstart": "story",
    "finetune": "classify or instruct",
    "fine-tune": "classify or instruct",
    "sft": "instruct",
    "inference": "predict or generate",
    "sample": "generate",
    "eval": "evaluate",
    "test": "evaluate",
    "tokenize": "encode",
    "download": "import",
}
"""What other tools call our commands."""


def with_current_options(words: Sequence[str], known: Iterable[str]) -> list[str]:
    """Replace the option names of version 0.1 in a command.

    >>> with_current_options(["--minutes", "2", "--no-recompute"], ["train_time", "a"])
    ['--train-time', '2m', '--no-recompute']
    """
    names, new = set(known), list(words)
    for place, word in enumerate(words):
        option, joined, value = word.partition("=")
        no = "no-" if option.startswith("--no-") else ""
        old = option.removeprefix(f"--{no}").replace("-", "_")
        if not option.startswith("--") or old in names or RENAMED.get(old) not in names:
            continue
        convert = CONVERTED.get(old, str)
        new[place] = f"--{no}{RENAMED[old].replace('_', '-')}"
        if joined:
            new[place] += f"={convert(value)}"
        elif old in CONVERTED and place + 1 < len(words):
            new[place + 1] = convert(words[place + 1])
    return new


def as_user_error(error: CycloptsError, words: Sequence[str]) -> UserError:
    """Word what cyclopts found, with the nearest option or command and what to type."""
    verb = next((word for word in words if any(v.name == word for v in VERBS)), "")
    see = f"groundup {verb} --help" if verb else "groundup --help"
    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value).split("=")[0]
        known = [name for argument in error.argument_collection or [] for name in argument.names]
        return UserError(f"Unknown option {option}. {_meant(option, known)}".rstrip(), command=see)
    if isinstance(error, UnknownCommandError):
        return unknown_command(words[0])
    if isinstance(error, CoercionError) and error.argument is not None and error.token is not None:
        name = error.argument.name
        expected = Kind.of(error.argument.hint)
        message = str(error.msg or "")
        sentence = message if message.endswith("expected.") else expected.expected
        return UserError(f"{name} is {error.token.value!r}. {sentence}", command=see)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return UserError(f"{error.argument.name} needs a value.", command=see)
    if isinstance(error, RepeatArgumentError):
        return UserError(f"{error.token.keyword} is given twice.", command=see)
    if isinstance(error, UnusedCliTokensError):
        unused = " ".join(error.unused_tokens or [])
        return UserError(f"The argument {unused} is not expected.", command=see)
    if isinstance(error, ArgumentOrderError):
        return UserError("Positional arguments go first, before the options.", command=see)
    return UserError(str(error).strip().splitlines()[0], command=see)


def unknown_command(name: str) -> UserError:
    """An error that names the nearest command."""
    if name in _OTHER_COMMANDS:
        hint = f" Did you mean {_OTHER_COMMANDS[name]}?"
    else:
        near = min((verb.name for verb in VERBS), key=lambda command: distance(name, command))
        hint = f" Did you mean {near}?" if is_close(name, near) else ""
    return UserError(f"There is no command {name!r}.{hint}", command="groundup --help")


def _meant(option: str, known: Sequence[str]) -> str:
    option = option.lower().replace("_", "-")
    if option in known:  # only spelled in another way
        return f"Did you mean {option}?"
    others = [ours for ours, names in _OTHER_NAMES.items() if option in names.split()]
    if meant := [ours for ours in others if ours in known]:
        return f"Did you mean {' or '.join(meant[:2])}?"
    if option in _EXPLAINED:
        return _EXPLAINED[option]
    near = min(known, key=lambda name: distance(option, name), default="")
    return f"Did you mean {near}?" if near and is_close(option, near) else ""


def is_known_elsewhere(option: str, known: Sequence[str]) -> bool:
    """Whether a word is an option of another command or tool, or a typing error of one."""
    return option.startswith("--") and bool(_meant(option, known))


def is_close(word: str, name: str) -> bool:
    """Whether a word is probably a typing error of a name.

    >>> is_close("--sede", "--seed"), is_close("--resume", "--recompute"), is_close("--lr", "--l")
    (True, False, False)
    """
    n_letters = len(name.lstrip("-"))
    return n_letters > 2 and distance(word, name) <= (1 if n_letters < 4 else 2)


def distance(a: str, b: str) -> int:
    """Count the letters to insert, delete, replace or swap with the next one to get from a to b.

    >>> distance("--sede", "--seed"), distance("--stpes", "--steps"), distance("a", "bc")
    (1, 1, 2)
    """
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(row[j - 1] + 1, before[j] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]
