# %% [markdown]
# # 2. Tokenizer
#
# A model computes with numbers; a tokenizer turns text into a list of them and back. There is a
# ladder: characters, words, and byte pairs, which take the good of both.

# %%
from groundup.reference import bpe as by_hand
from groundup.text.builtin import python_reference
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.train_bpe import train_bpe
from groundup.tokenizer.words import WordTokenizer

documents = list(python_reference())
text = "\n\n".join(document.text for document in documents[1:])
new = documents[0].text  # no rung of the ladder has seen this one
n_bytes = len(new.encode())

# %% [markdown]
# ## First rung: characters
# Nothing is lost and the vocabulary is small, but a window of 256 tokens sees only 256 letters.

# %%
characters = CharacterTokenizer.from_text(text)
ids = characters.encode(new)
assert characters.decode(ids) == new
print(f"{characters.vocab_size:>6,} ids, {n_bytes / len(ids):.2f} bytes per token")

# %% [markdown]
# ## Second rung: words
# Far fewer tokens, but a huge vocabulary, lost white space, and no way to say a new word.

# %%
words = WordTokenizer.from_text(text)
ids = words.encode(new)
unknown = ids.count(words.unknown_id) / len(ids)
print(
    f"{words.vocab_size:>6,} ids, {n_bytes / len(ids):.2f} bytes per token, {unknown:.1%} unknown"
)
assert words.decode(words.encode("the\n\nqwyjibo")) == "the <|unk|>"

# %% [markdown]
# ## Third rung: byte pairs
# Start with the 256 bytes, so that nothing can ever be unknown. Then look for the commonest pair of
# neighbours, give it an id of its own, and do it again. Three merges by hand:

# %%
pretokens = [b"low", b" low", b" lower", b" slow"]
merges = by_hand.learn(pretokens, 3)
table = [bytes([value]) for value in range(256)]
for left, right in merges:
    table.append(table[left] + table[right])
    print(f"  {table[left]!r} + {table[right]!r} -> id {len(table) - 1}")
assert table[257] == b"low"
print("' slower' is", [table[i] for i in by_hand.encode(b" slower", merges)])

# %% [markdown]
# The same rule, made fast, on the whole text. A word and its leading space are one token when they
# are common; a rare word is spelled from pieces.

# %%
tokenizer = train_bpe([text], vocab_size=1024)
ids = tokenizer.encode(new)
assert tokenizer.decode(ids) == new
print(f"{tokenizer.vocab_size:>6,} ids, {n_bytes / len(ids):.2f} bytes per token")
line = "An assertion that qwyjibo fails 🙂"
pieces = [
    tokenizer.token_bytes(i).decode(errors="backslashreplace") for i in tokenizer.encode(line)
]
print("|".join(pieces))
assert tokenizer.decode(tokenizer.encode(line)) == line

# %% [markdown]
# ## Special tokens
# Some ids stand for no text at all: where a document ends, who speaks. Typed into a text their
# names are ordinary text, unless the program says otherwise; a user must not end a document.

# %%
end = tokenizer.special_tokens["<|endoftext|>"]
assert end not in tokenizer.encode("one<|endoftext|>two")
assert tokenizer.encode("one<|endoftext|>two", allowed_special={"<|endoftext|>"}).count(end) == 1
print("special tokens:", tokenizer.special_tokens)
