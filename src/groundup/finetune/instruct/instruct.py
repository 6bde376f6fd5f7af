"""Fine-tune the model of a run as an assistant.

A record becomes `<|user|> prompt <|end|> <|assistant|> answer <|end|>`, or what the chat template of
an imported model writes: the same ids as in `groundup chat`. Only the answer and its end are
targets of the loss. The test prompts are answered greedily before and after fine-tuning, and
deterministic graders decide which answers are correct.
"""

import dataclasses
import time
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.files import write_json, write_text
from groundup.base.folder_kinds import find_run
from groundup.base.run import RunFolder
from groundup.evaluation.load import ASSISTANT_MARK, LanguageModel
from groundup.finetune.batches import RowLoader
from groundup.finetune.foundation import open_foundation, target_folder
from groundup.finetune.instruct.answers import answer_all
from groundup.finetune.instruct.chat_tokens import with_chat_tokens
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.examples import Examples, make_examples
from groundup.finetune.instruct.result import (
    Answer,
    InstructResult,
    answers_page,
    readme,
    shares,
)
from groundup.finetune.instruct.synthetic import grade
from groundup.finetune.outcome import AfterTraining, save_to_new_folder
from groundup.finetune.training import OnStep, log_steps, mean_loss, tune
from groundup.tokenizer.special import END
from groundup.train.loop import Step
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.weights.checkpoint_format import save_model


@takes_settings(InstructConfig, "run")
def instruct(config: InstructConfig, on_step: OnStep | None = None) -> InstructResult:
    """Fine-tune an assistant, test it before and after, and write it to RUN/assistant.

    The assistant is saved right after training. If a later step fails, such as the test, the
    result has a warning. No checkpoints are written: a run that is interrupted starts again from
    the beginning.

    Raises:
        UserError: A record is malformed (see `read_records`), the text is too short for synthetic
            records, too few records fit the context, the run contains no model, or the assistant
            cannot be written.
    """
    started_at = time.perf_counter()
    config = dataclasses.replace(config, run=find_run(config.run))
    assert config.run is not None
    foundation = open_foundation(config.run, device=config.device, threads=config.threads)
    added_tokens: tuple[str, ...] = ()
    if foundation.chat_template is None:
        foundation, added_tokens = with_chat_tokens(foundation, seed=config.seed)
    model, tokenizer = foundation.model, foundation.tokenizer
    wanted = target_folder(config.run, config.out, "assistant", model)
    examples = make_examples(
        config, tokenizer, model.config.context_length, foundation.chat_template
    )
    before = _answers(config, foundation, examples)
    loss_before = mean_loss(model, examples.test_rows)
    steps = _train(config, foundation, examples, on_step)
    folder = save_to_new_folder(wanted, lambda path: _save(foundation, examples, path))
    after = AfterTraining(folder)
    run = RunFolder(folder)
    result = InstructResult(
        folder=folder,
        n_records=len(examples.rows),
        n_read=examples.n_read,
        n_too_long=examples.n_too_long,
        n_repeated=examples.n_repeated,
        reading=examples.reading,
        context_length=model.config.context_length,
        added_tokens=added_tokens,
        max_new_tokens=config.max_new_tokens,
        answers=[],
        before=None,
        after=None,
        loss_before_nats=loss_before,
        loss_after_nats=None,
        steps=steps,
        elapsed_s=0.0,
        warnings=after.warnings,
    )
    with after.step("Writing the settings"):
        run.write_config(config)
    with after.step("Writing the manifest"):
        run.write_manifest({**_manifest(config, result), **foundation.special_ids.to_manifest()})
    with after.step("Writing the metrics"):
        log_steps(run, steps)
    with after.step("Measuring the test loss"):
        loss_after = mean_loss(model, examples.test_rows)
        result = dataclasses.replace(result, loss_after_nats=loss_after)
    with after.step("Testing the assistant"):
        result = _tested(config, foundation, examples, before, result)
    with after.step("Writing the answers"):
        write_text(run.samples / "answers.md", answers_page(result.answers))
    with after.step("Writing the results"):
        write_json(folder / ASSISTANT_MARK, result.summary())
    with after.step("Writing the README"):
        run.write_readme(readme(result))
    return dataclasses.replace(result, elapsed_s=time.perf_counter() - started_at)


def _train(
    config: InstructConfig, foundation: LanguageModel, examples: Examples, on_step: OnStep | None
) -> list[Step]:
    model = foundation.model
    optimizer = Optimizer(
        model,
        OptimizerConfig(
            learning_rate=config.learning_rate,
            embedding_learning_rate=config.embedding_learning_rate,
            norm_learning_rate=config.embedding_learning_rate,
            weight_decay=0.0,
        ),
    )
    batches = iter(RowLoader(examples.rows, config.batch_size, seed=config.seed))
    return tune(model, batches, model.loss, optimizer, n_steps=config.steps, on_step=on_step)


def _save(assistant: LanguageModel, examples: Examples, folder: Path) -> None:
    save_model(assistant.model, folder)
    assistant.tokenizer.save(folder / "tokenizer")
    if assistant.chat_template is not None:
        assistant.chat_template.save(folder / "tokenizer")
    # Written last: a folder with this file has a complete assistant. The test adds its numbers.
    write_json(folder / ASSISTANT_MARK, {"n_records": len(examples.rows)})


def _answers(
    config: InstructConfig, assistant: LanguageModel, examples: Examples
) -> list[list[int]]:
    stops = set(assistant.stop_ids)
    if assistant.chat_template is None:
        stops.add(assistant.tokenizer.special_tokens[END])
    return answer_all(assistant.model, examples.prompts, config.max_new_tokens, stop_ids=stops)


def _tested(
    config: InstructConfig,
    assistant: LanguageModel,
    examples: Examples,
    before: list[list[int]],
    result: InstructResult,
) -> InstructResult:
    decode, context_length = assistant.tokenizer.decode, assistant.model.config.context_length
    after = _answers(config, assistant, examples)
    n_cut = sum(
        len(ids) == config.max_new_tokens or len(prompt) + len(ids) == context_length
        for prompt, ids in zip(examples.prompts, after, strict=True)
    )
    texts = [(decode(a), decode(b)) for a, b in zip(before, after, strict=True)]
    answers = [
        Answer(r, a, b, grade(r, a), grade(r, b))
        for r, (a, b) in zip(examples.test, texts, strict=True)
    ]
    share_before, share_after = shares(answers)
    return dataclasses.replace(
        result,
        answers=answers,
        n_cut_answers=n_cut,
        before=share_before,
        after=share_after,
    )


def _manifest(config: InstructConfig, result: InstructResult) -> dict[str, object]:
    return {
        "foundation": str(config.run),
        "n_records": result.n_records,
        "n_records_read": result.n_read,
        "added_tokens": list(result.added_tokens),
        "left_out": {
            "longer than the context": result.n_too_long,
            "same prompt as a test record": result.n_repeated,
        },
        "reading": result.reading.to_table(),
    }
