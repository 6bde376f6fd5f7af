# %% [markdown]
# # 1. Documents
#
# A language model is trained on text and on nothing else. The first question is which text to use.
# The second is which part of it to hold out as the validation set: only text that the model was not
# trained on shows what it has learned.

# %%
from groundup.text.audit import audit
from groundup.text.builtin import python_reference
from groundup.text.documents import Document, clean
from groundup.text.split import split_documents

documents = list(python_reference())
n_characters = sum(len(document.text) for document in documents)
print(f"{len(documents)} documents, {n_characters:,} characters")
for document in sorted(documents, key=lambda d: -len(d.text))[:3]:
    print(f"  {document.name:<14} {len(document.text):>7,} characters")
print(documents[0].text[:200])

# %% [markdown]
# ## Cleaning changes almost nothing
# All line endings become "\n", and a byte-order mark is removed. Everything else may carry meaning,
# so it is kept.

# %%
assert clean("\ufeffone\r\ntwo") == "one\ntwo"
assert clean("  Grüße,\tWelt  ") == "  Grüße,\tWelt  "

# %% [markdown]
# ## Split the documents into training and validation sets
# A tenth of the documents is held out. A hash of each document decides which ones, so no document
# changes sides when documents are added or reordered.

# %%
split = split_documents(documents, validation_frac=0.1, seed=1)
print(f"{len(split.train)} training, {len(split.validation)} validation documents ({split.rule})")
reordered = split_documents(documents[::-1], validation_frac=0.1, seed=1)
assert {d.name for d in reordered.validation} == {d.name for d in split.validation}

# %% [markdown]
# ## Find passages that are in both sets
# If a validation passage is also in the training set, its loss measures memorization, not
# generalization. Exact duplicates are found by their hash, near duplicates by their runs of
# three words. The next cell adds one leaked passage, with different line breaks, and finds it.

# %%
before = audit(split.train, split.validation)
print(
    f"{before.n_passages_validation} validation passages, {before.leaked_frac:.1%} of them leaked"
)
passage = max(split.train[0].text.split("\n\n"), key=len)
leaked = [*split.validation, Document("leaked", " ".join(passage.split()))]
after = audit(split.train, leaked)
print(f"with the leaked passage: {after.across.n_exact - before.across.n_exact} more found")
found = after.across.examples[-1]
print(f"a passage of {found.first!r} is also in {found.second!r}")
assert after.across.n_exact == before.across.n_exact + 1
