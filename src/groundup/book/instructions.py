"""Fine-tuning on instructions, as chapter 7 does it: the prompt, the dataset and the batches."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from groundup.book.training import Device
from groundup.data.encoder import Encoder, check_ids

Entry = Mapping[str, str]
"""A record with the fields instruction, input (it may be empty) and output."""


def format_input(entry: Entry) -> str:
    r"""Write the instruction and the input of a record as a prompt in the Alpaca style.

    >>> format_input({"instruction": "Add.", "input": "1, 2"}).split("\n\n")[1:]
    ['### Instruction:\nAdd.', '### Input:\n1, 2']
    """
    task = (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
        f"\n\n### Instruction:\n{entry['instruction']}"
    )
    return f"{task}\n\n### Input:\n{entry['input']}" if entry.get("input") else task


class InstructionDataset(Dataset[list[int]]):
    """The ids of each record: prompt, then response."""

    def __init__(self, data: Sequence[Entry], tokenizer: Encoder) -> None:
        self.data = data
        self.encoded_texts: list[list[int]] = []
        for entry in data:
            text = f"{format_input(entry)}\n\n### Response:\n{entry['output']}"
            self.encoded_texts.append(check_ids(tokenizer.encode(text)).tolist())

    def __getitem__(self, index: int) -> list[int]:
        """Return the ids of one record."""
        return self.encoded_texts[index]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.data)


def custom_collate_fn(
    batch: Sequence[Sequence[int]],
    pad_token_id: int = 50256,
    ignore_index: int = -100,
    allowed_max_length: int | None = None,
    device: Device = "cpu",
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Make a batch (inputs, targets) of texts of different lengths.

    Each text gets one padding id, which ends it, and is then padded to the longest. In the targets
    all padding ids but the first of a row become `ignore_index`, which the loss leaves out.

    >>> inputs, targets = custom_collate_fn([[1, 2, 3], [4]], pad_token_id=0)
    >>> inputs.tolist(), targets.tolist()
    ([[1, 2, 3], [4, 0, 0]], [[2, 3, 0], [0, -100, -100]])
    """
    length = max(map(len, batch)) + 1
    rows = torch.tensor([[*ids, *[pad_token_id] * (length - len(ids))] for ids in batch])
    inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    is_padding = targets == pad_token_id
    targets[is_padding & (is_padding.cumsum(dim=1) > 1)] = ignore_index
    return (
        inputs[:, :allowed_max_length].to(device),
        targets[:, :allowed_max_length].to(device),
    )
