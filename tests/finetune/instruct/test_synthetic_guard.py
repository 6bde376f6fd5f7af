"""No question of the test is trained on, even where few words make the same question likely."""

import itertools

from groundup.finetune.instruct.synthetic import MIN_WORDS, make_synthetic_records

LETTERS = "abcdefgh"


def test_no_prompt_of_the_test_is_trained_on() -> None:
    words = ["".join(word) for word in itertools.product(LETTERS, repeat=3)][: MIN_WORDS + 5]
    text = " ".join(words * 3)
    train, test = make_synthetic_records([text], [text], n_train=6000, n_test_per_kind=100, seed=1)
    asked = {record.prompt for record in test}
    assert len(train) < 6000  # some were the same by chance, and left out
    assert not asked & {record.prompt for record in train}
