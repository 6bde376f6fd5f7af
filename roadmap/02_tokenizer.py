# %% [markdown]
# # 2. Tokenizer
#
# A model computes with numbers. A tokenizer encodes text as a list of token ids and decodes it
# again. This tutorial compares three types: characters, words, and byte-pair encoding (BPE), which
# combines the advantages of both.

# %%
from groundup.reference import bpe as simple_bpe
from groundup.text.builtin import python_reference
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.train_bpe import train_bpe
from groundup.tokenizer.words import WordTokenizer

documents = list(python_reference())
text = "\n\n".join(document.text for document in documents[1:])
new = documents[0].text  # no tokenizer below is trained on it
n_bytes = len(new.encode())

# %% [markdown]
# ## Characters
# Decoding is exact and the vocabulary is small, but a context of 256 tokens is only 256 characters.

# %%
characters = CharacterTokenizer.from_text(text)
ids = characters.encode(new)
assert characters.decode(ids) == new
print(f"{characters.vocab_size:>6,} ids, {n_bytes / len(ids):.2f} bytes per token")

# %% [markdown]
# ## Words
# The text needs far fewer tokens. But the vocabulary is large, white space is lost, and a word that
# is not in the vocabulary cannot be encoded.

# %%
words = WordTokenizer.from_text(text)
ids = words.encode(new)
unknown = ids.count(words.unknown_id) / len(ids)
print(
    f"{words.vocab_size:>6,} ids, {n_bytes / len(ids):.2f} bytes per token, {unknown:.1%} unknown"
)
assert words.decode(words.encode("the\n\nqwyjibo")) == "the <|unk|>"

# %% [markdown]
# ## Byte-pair encoding
# Start with the 256 bytes, so that no text is ever unknown. Find the most frequent pair of adjacent
# tokens, give the pair a new id, and repeat. Here are three merges with the simple reference
# implementation:

# %%
pretokens = [b"low", b" low", b" lower", b" slow"]
merges = simple_bpe.learn(pretokens, 3)
table = [bytes([value]) for value in range(256)]
for left, right in merges:
    table.append(table[left] + table[right])
    print(f"  {table[left]!r} + {table[right]!r} -> id {len(table) - 1}")
assert table[257] == b"low"
print("' slower' is", [table[i] for i in simple_bpe.encode(b" slower", merges)])

# %% [markdown]
# The fast implementation follows the same rule. Trained on all of the text, it gives a frequent
# word and its leading space one token, and splits a rare word into several.

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
# Some ids represent no text: the end of a document, or the speaker of a chat turn. Their names in a
# text are encoded as ordinary text unless the caller allows them, so that the input of a user
# cannot end a document.

# %%
end = tokenizer.special_tokens["<|endoftext|>"]
assert end not in tokenizer.encode("one<|endoftext|>two")
assert tokenizer.encode("one<|endoftext|>two", allowed_special={"<|endoftext|>"}).count(end) == 1
print("special tokens:", tokenizer.special_tokens)
