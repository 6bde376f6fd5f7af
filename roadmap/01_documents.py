# %% [markdown]
# # 1. Documents
#
# A language model learns from text and from nothing else, so the first question is which text, and
# the second is which part of it is kept away from the model. What it has not read is the only
# honest measure of what it has learnt.

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
# ## Cleaning is next to nothing
# Line ends become one kind, a byte-order mark goes. Everything else in a text may carry meaning, so
# it stays.

# %%
assert clean("\ufeffone\r\ntwo") == "one\ntwo"
assert clean("  Grüße,\tWelt  ") == "  Grüße,\tWelt  "

# %% [markdown]
# ## The split: by document, decided by the document itself
# A tenth is held out. Which tenth? Each document's own hash decides, so nothing changes sides when
# documents are added or come in another order.

# %%
split = split_documents(documents, validation_frac=0.1, seed=1)
print(f"{len(split.train)} documents train, {len(split.validation)} validate ({split.rule})")
backwards = split_documents(documents[::-1], validation_frac=0.1, seed=1)
assert {d.name for d in backwards.validation} == {d.name for d in split.validation}

# %% [markdown]
# ## The audit: what stands on both sides
# A passage of the held-out text that was also in the training text measures memory, not learning.
# Exact twins are found by their hash, near ones by MinHash over runs of three words. Here one leak
# is planted, with its line ends changed.

# %%
honest = audit(split.train, split.validation)
print(f"{honest.n_passages_validation} held-out passages, {honest.leaked_frac:.1%} of them leaked")
stolen = max(split.train[0].text.split("\n\n"), key=len)
planted = [*split.validation, Document("planted", " ".join(stolen.split()))]
caught = audit(split.train, planted)
print(f"with one planted: {caught.across.n_exact - honest.across.n_exact} more found,")
found = caught.across.examples[-1]
print(f"one stands in {found.first!r} and {found.second!r}")
assert caught.across.n_exact == honest.across.n_exact + 1
