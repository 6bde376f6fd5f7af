"""Instruction tuning of SmolLM2 with LoRA: cost of an epoch, peft beside it, and folds.

    python benchmarks/bench_instruct.py RUN RECORDS OUT [epoch] [peer] [folds]

RUN is an imported SmolLM2-135M-Instruct, RECORDS the 1,100 records of the book. `epoch` trains on
the book's 935 records and tests on its 110. `peer` trains some of the same batches with
transformers and peft. `folds` tests every record once in five folds whose prompts are no near
duplicates of each other; it continues where it was interrupted. Costs are CPU-seconds of this
process (user and system), so that other work on the machine matters less.
"""

import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from groundup.base.run import RunFolder
from groundup.evaluation.export import export
from groundup.evaluation.load import LanguageModel, load
from groundup.finetune.batches import RowBatches, sequence_loss
from groundup.finetune.instruct import baselines
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.evaluation import COLUMNS, Evaluation, table_of
from groundup.finetune.instruct.examples import Dataset, read_dataset
from groundup.finetune.instruct.scores import METRICS
from groundup.finetune.instruct.synthetic import Identity
from groundup.finetune.instruct.testing import (
    Callbacks,
    answer_loss,
    cross_validate,
    measure_after,
    measure_before,
    tune,
)
from groundup.model.lora import add_lora
from groundup.train.optimizer import Optimizer, OptimizerConfig
from groundup.train.precision import MixedPrecision
from groundup.weights.config import ExportConfig

N_PEER_STEPS = 6


class Bench:
    """The model, the settings and the data of all measurements."""

    def __init__(self, run: str, records: str, out: str) -> None:
        torch.set_num_threads(1)
        self.out = Path(out)
        self.model: LanguageModel = load(run)
        n_parameters = sum(p.numel() for p in self.model.model.parameters())
        self.config = InstructConfig(
            run=Path(run), records=records, split="in-order", threads=1, device="cpu"
        ).resolved(n_parameters)
        nobody = Identity(name="", n_parameters=0, trained_on="")
        self.dataset: Dataset = read_dataset(
            self.config,
            self.model.tokenizer,
            self.model.model.config.context_length,
            self.model.chat_template,
            nobody,
        )

    def epoch(self) -> None:
        """One epoch on the book's split."""
        run = RunFolder(self.out / "epoch")
        run.path.mkdir(parents=True, exist_ok=True)
        examples = dataclasses.replace(self.dataset.examples(), validation_rows=[])
        config = self.config
        cpu_s = {"before": time.process_time()}
        before = measure_before(
            self.model, examples, config, run.path, Callbacks(), with_baselines=True
        )
        cpu_s["training"] = time.process_time()
        tuned = tune(self.model, examples, config, run, Callbacks(on_step=_print_step))
        cpu_s["after"] = time.process_time()
        n_tokens = sum(len(ids) for ids, _ in examples.rows)
        train_s = cpu_s["after"] - cpu_s["training"]
        if tuned.trained.resumed_from_step:
            print(f"resumed from step {tuned.trained.resumed_from_step}: a part of the cost only")
        print(f"tests before        {cpu_s['training'] - cpu_s['before']:.0f} CPU-s")
        print(f"one epoch           {train_s:.0f} CPU-s, {n_tokens / train_s:.0f} tokens/CPU-s")
        print(f"peak memory         {tuned.trained.peak_memory_bytes / 1e9:.2f} GB")
        print(f"answer loss before  {before.loss_nats:.3f} nats/token")
        loss = answer_loss(tuned.model, examples.test_rows, config)
        print(f"answer loss after   {loss:.3f} nats/token")
        assistant = dataclasses.replace(self.model, model=tuned.model)
        evaluation = measure_after(assistant, before, config, Callbacks())
        print(f"tests after         {time.process_time() - cpu_s['after']:.0f} CPU-s")
        evaluation.write(self.out / "epoch.jsonl")
        _print_scores(evaluation)

    def folds(self) -> None:
        """Five folds: each record is tested once, without a near duplicate in training."""
        config = dataclasses.replace(self.config, shots=0)
        parts = self.dataset.folds(5, seed=0)
        began_at, evaluation = time.process_time(), Evaluation()
        for n in range(1, len(parts) + 1):  # those before are read from the folder
            tested = cross_validate(
                self.model, parts[:n], config, self.out, Callbacks(on_step=_print_step)
            )
            evaluation = tested.evaluation
            print(
                f"\n{n} of {len(parts)} folds, {time.process_time() - began_at:.0f} CPU-s: answer "
                f"loss {tested.loss_before_nats:.3f} -> {tested.loss_after_nats:.3f} nats/token"
            )
            _print_scores(evaluation)
        evaluation.write(self.out / "folds.jsonl")

    def peer(self) -> None:
        """The same batches with transformers and peft: logits at all positions, bf16 autocast."""
        batches = RowBatches(self.dataset.examples().rows, self.config.batch_size or 1, seed=0)
        steps = {"groundup": self._our_step(), "peft": self._peft_step()}
        cpu_s, n_tokens = dict.fromkeys(steps, 0.0), 0
        for k in range(-1, N_PEER_STEPS):  # the first one is not counted
            ids, targets = batches.batch(max(k, 0))
            losses = {}
            for name, step in steps.items():
                began_at = time.process_time()
                losses[name] = step(ids, targets)
                cpu_s[name] += (time.process_time() - began_at) * (k >= 0)
            n_tokens += sum(len(batches.rows[i][0]) for i in batches.row_numbers(max(k, 0))) * (
                k >= 0
            )
            print(f"batch {k}: " + ", ".join(f"{n} {loss:.4f}" for n, loss in losses.items()))
        for name, seconds in cpu_s.items():
            print(f"{name:<10} {n_tokens / seconds:.0f} tokens/CPU-s")
        print(f"ratio {cpu_s['peft'] / cpu_s['groundup']:.2f}")

    def _our_step(self) -> Any:
        model = load(self.config.run or "").model
        add_lora(model, self.config.lora, seed=0)
        optimizer = Optimizer(model, OptimizerConfig(name="adamw", learning_rate=1e-3))
        mixed = MixedPrecision(model, torch.bfloat16)
        model.train()

        def step(ids: torch.Tensor, targets: torch.Tensor) -> float:
            loss = mixed.run(lambda _, *rows: sequence_loss(model, *rows), ids, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(1.0)
            optimizer.zero_grad()
            return loss.item()

        return step

    def _peft_step(self) -> Any:
        import peft
        import transformers

        with tempfile.TemporaryDirectory() as folder:
            export(ExportConfig(run=self.config.run, out=Path(folder) / "hf"))
            model = transformers.AutoModelForCausalLM.from_pretrained(Path(folder) / "hf")
        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        lora = peft.LoraConfig(r=16, lora_alpha=32, target_modules=names)
        model = peft.get_peft_model(model, lora).train()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
        end = self.model.tokenizer.vocab_size

        def step(ids: torch.Tensor, targets: torch.Tensor) -> float:
            last = (targets != -100) * torch.arange(1, ids.shape[1] + 1)
            attended = torch.arange(ids.shape[1]) < last.amax(dim=1, keepdim=True)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=ids, attention_mask=attended.long()).logits[..., :end]
            loss = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), targets.flatten()
            )
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            return loss.item()

        return step


def _print_step(step: Any) -> None:
    if step.step % 10 == 0:
        print(f"  step {step.step}/{step.n_steps}  loss {step.loss_nats:.3f}", flush=True)


def _print_scores(evaluation: Evaluation) -> None:
    everything = [True] * len(evaluation.items)
    sets = {"all rows": everything, "rows without a near duplicate": evaluation.is_new}
    for name, among in sets.items():
        print(f"{name}: {sum(among)}")
        for row in [list(COLUMNS), *table_of(evaluation, among)]:
            print(f"  {row[0]:<40}" + "".join(f"{cell:>13}" for cell in row[1:]))
        for metric in METRICS:
            for baseline in {baselines.UNTUNED, evaluation.best_baseline(metric, among)} - {None}:
                found = evaluation.difference(metric, str(baseline), among)
                if found is not None:
                    print(
                        f"  {metric}, fine-tuned - {baseline}: {found.mean:+.3f} "
                        f"[{found.low:+.3f}, {found.high:+.3f}], {found.n} rows"
                    )
    for sentence in evaluation.verdict():
        print(sentence)
    sys.stdout.flush()


def main(run: str, records: str, out: str, *parts: str) -> None:
    bench = Bench(run, records, out)
    for part in parts or ("epoch", "peer", "folds"):
        print(f"== {part}", flush=True)
        getattr(bench, part)()


if __name__ == "__main__":
    main(*sys.argv[1:])
