"""The number format in which a fine-tuning job is computed."""

from collections.abc import Callable

from groundup.base.device import choose_dtype
from groundup.base.malloc import give_back
from groundup.finetune.job import FineTuning
from groundup.train.precision import MixedPrecision


def mixed_precision(job: FineTuning) -> MixedPrecision:
    """Return what computes the loss of a job in the number format of its config."""
    device = job.optimizer.watched.device
    return MixedPrecision(job.model, choose_dtype(job.config.dtype, device))


def validation_of(job: FineTuning, mixed: MixedPrecision) -> Callable[[], float] | None:
    """Return the validation of a job, in evaluation mode and in the number format of the run."""
    measure = job.validate
    if measure is None:
        return None

    def validate() -> float:
        was_training = job.model.training
        job.model.eval()
        give_back()  # batches of another shape do not fit into the memory that steps have freed
        measured = mixed.run(lambda model: measure())
        give_back()
        job.model.train(was_training)
        return measured

    return validate
