"""A packed row gives each document what it gets alone."""

import pytest
import torch
from decoder_models import CONFIGS, lively, text

LENGTHS = (5, 1, 20, 48, 3)


@pytest.mark.parametrize("kind", CONFIGS)
def test_packed_logits_are_those_of_single_documents(kind):
    model = lively(CONFIGS[kind])
    documents = [text(n, seed=n) for n in LENGTHS]
    row = torch.tensor([[token for ids in documents for token in ids]])
    packed = model.logits(model.hidden(row, lengths=torch.tensor([LENGTHS])))
    for ids, found in zip(documents, packed[0].split(LENGTHS), strict=True):
        torch.testing.assert_close(found, model(torch.tensor([ids]))[0], atol=1e-5, rtol=1e-5)
