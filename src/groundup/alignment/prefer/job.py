"""The training on pairs: the reference, the loss, the job for the trainer, and the test."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from groundup.alignment.prefer.baselines import baseline_scores
from groundup.alignment.prefer.batches import PairBatches, n_pairs, pair_batch
from groundup.alignment.prefer.config import PreferConfig
from groundup.alignment.prefer.encoding import EncodedPair
from groundup.alignment.prefer.evaluation import PreferenceReport, preference_report
from groundup.alignment.prefer.losses import (
    PairLogProbabilities,
    n_answer_tokens,
    pair_log_probabilities,
    preference_losses,
)
from groundup.alignment.prefer.reference import (
    Reference,
    log_probabilities,
    reference_key,
    reference_log_probabilities,
)
from groundup.alignment.prefer.split import PairSplit
from groundup.base.config import to_mapping
from groundup.base.device import choose_dtype
from groundup.base.run import RunFolder
from groundup.evaluation.load import LanguageModel
from groundup.finetune.job import FineTuning, adamw, base_fingerprint
from groundup.model.gpt import GPT
from groundup.model.lora import add_lora, without_lora
from groundup.train.precision import MixedPrecision

_ADAPTERS_COST = 1.3
"""Time of a forward pass with adapters, in those without."""
_N_TIMED = 8
"""Pairs on which a plan measures the time of the reference."""
_NOT_IN_IDENTITY = ("run", "out", "budget", "plan_only", "threads", "device")


class PreferenceJob:
    """The training of a model on pairs.

    Args:
        config: The settings.
        foundation: The assistant. Its model gets the adapters.
        pairs: All pairs, in the order of the records: the reference does not depend on the split.
        sets: The same pairs in their sets.
    """

    def __init__(
        self,
        config: PreferConfig,
        foundation: LanguageModel,
        pairs: Sequence[EncodedPair],
        sets: PairSplit,
    ) -> None:
        self.config, self.model, self.sets = config, foundation.model, sets
        self.started_at = time.monotonic()
        self.after_s = 0.0
        """Estimated seconds of the test and the samples after training."""
        self._dtype = choose_dtype(config.dtype, self.model.device)
        self._rows = [pair.rows for pair in pairs]
        self._place = {pair.number: place for place, pair in enumerate(pairs)}
        template = foundation.chat_template
        self.key = reference_key(
            base_fingerprint(foundation),
            "" if template is None else template.source,
            self._dtype,
            self._rows,
        )
        if config.method == "lora":
            add_lora(self.model, config.lora, seed=config.seed)
        self._reference: Tensor | None = None

    def prepare_reference(
        self,
        run: RunFolder,
        also_in: Sequence[Path],
        on_reference: Callable[[int, int], None] | None = None,
    ) -> Reference:
        """Compute the reference log-probabilities of all pairs, or read them.

        Args:
            run: The run folder, in which they are stored.
            also_in: Other run folders that may have them.
            on_reference: Called with the numbers of pairs done and of all pairs.
        """
        n, began_at = len(self._rows), time.monotonic()
        found = reference_log_probabilities(
            self._rounded(),
            self._rows,
            run.path,
            self.key,
            also_in=also_in,
            on_pair=None if on_reference is None else lambda done: on_reference(done, n),
        )
        self._reference = found.nats
        if found.cached_in is None:
            pair_s = (time.monotonic() - began_at) / n
            self.after_s += _ADAPTERS_COST * pair_s * len(self.sets.test)
        return found

    def without_reference(self) -> FineTuning:
        """Describe the training with references of zero, for a plan of its cost.

        The time of the reference and of the test is estimated from a few pairs.
        """
        n = len(self._rows)
        some, began_at = self._rows[:: max(1, n // _N_TIMED)], time.monotonic()
        with without_lora(self.model):
            log_probabilities(self._rounded(), some)
        pair_s = (time.monotonic() - began_at) / len(some)
        self.after_s = pair_s * (n + _ADAPTERS_COST * len(self.sets.test))
        self._reference = torch.zeros(n, 2)
        return self.tuning()

    def tuning(self) -> FineTuning:
        """Describe the training."""
        config, train = self.config, self.sets.train
        settings = {n: v for n, v in to_mapping(config).items() if n not in _NOT_IN_IDENTITY}
        numbers = [[pair.number for pair in some] for some in (train, self.sets.validation)]
        identity = json.dumps([self.key, settings, numbers])
        return FineTuning(
            model=self.model,
            loss=self.loss,
            batches=PairBatches(
                [pair.rows for pair in train],
                self._references(train),
                config.batch_size,
                seed=config.seed,
            ),
            optimizer=adamw(self.model, config),
            n_steps=config.n_steps(len(train)),
            config=config,
            validate=self._validation_loss,
            identity=hashlib.sha256(identity.encode()).hexdigest(),
            count=n_pairs,
            after_s=self.after_s,
            started_at=self.started_at,
        )

    def loss(self, ids: Tensor, targets: Tensor, reference: Tensor) -> Tensor:
        """Compute the mean loss of the pairs of a batch. The trainer rounds the weights."""
        policy = pair_log_probabilities(self.model, ids, targets)
        return self._mean_loss(PairLogProbabilities(policy, reference, n_answer_tokens(targets)))

    def scored(
        self, pairs: Sequence[EncodedPair], model: GPT | MixedPrecision | None = None
    ) -> PairLogProbabilities:
        """Compute the log-probabilities of some pairs under the model as it is now.

        Args:
            pairs: The pairs.
            model: None: the model with weights in the number format of the run.
        """
        rows = [pair.rows for pair in pairs]
        policy = log_probabilities(self._rounded() if model is None else model, rows)
        return PairLogProbabilities(
            policy, self._references(pairs), n_answer_tokens(pair_batch(rows)[1])
        )

    def report(self) -> tuple[PreferenceReport, PreferenceReport | None]:
        """Test the model on all test pairs, and on those without a near duplicate in training."""
        train, test = (
            [(pair.pair.chosen, pair.pair.rejected) for pair in some]
            for some in (self.sets.train, self.sets.test)
        )
        report = preference_report(self.scored(self.sets.test), baseline_scores(train, test))
        distinct = self.sets.distinct()
        return report, report.only(distinct) if distinct else None

    def _validation_loss(self) -> float:
        return float(self._mean_loss(self.scored(self.sets.validation, self.model)))

    def _rounded(self) -> MixedPrecision:
        return MixedPrecision(self.model, self._dtype)

    def _references(self, pairs: Sequence[EncodedPair]) -> Tensor:
        assert self._reference is not None, "prepare_reference was not called"
        return self._reference[[self._place[pair.number] for pair in pairs]]

    def _mean_loss(self, pairs: PairLogProbabilities) -> Tensor:
        config = self.config
        return preference_losses(
            pairs,
            config.loss,
            beta=config.beta,
            label_smoothing=config.label_smoothing,
            sft_weight=config.sft_weight,
        ).mean()
