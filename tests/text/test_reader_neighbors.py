"""Files that are nearly right: each is read as it is meant, or refused with its place."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from groundup.base.errors import UserError
from groundup.records.conversations import read_conversations
from groundup.records.labels import read_labels
from groundup.text.config import PrepareConfig, ReadConfig
from groundup.text.corpus import read_corpus
from groundup.text.left_out import LeftOut
from groundup.text.prepare import _distinct, prepare
from groundup.text.read import read_documents, read_pieces

LABELS = "text,label\na b,x\nc d,x\ne f,y\ng h,y\n"


def texts(source: Path | str, **settings: object) -> list[str]:
    return [document.text for document in read_documents(source, **settings)]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_zstd_file_that_was_cut_is_refused(tmp_path: Path, part: float) -> None:
    content = zstandard.compress("\n".join(f"line {i} of many" for i in range(50_000)).encode())
    path = tmp_path / "a.txt.zst"
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UserError, match="ends in the middle"):
        texts(path)
    path.write_bytes(zstandard.compress(b"one ") + zstandard.compress(b"two"))
    assert texts(path) == ["one two"]


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("width", ["utf-16", "utf-32"])
def test_the_byte_order_that_is_suggested_is_right(tmp_path: Path, width: str, order: str) -> None:
    text = "The cat sat on the mat.\n" * 20
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(f"{width}-{order}"))
    with pytest.raises(UserError) as caught:
        texts(path, encoding=width)
    assert caught.value.settings == {"encoding": f"{width}-{order}"}
    assert texts(path, encoding=f"{width}-{order}") == [text]
    path.write_bytes(("\ufeff" + text).encode(f"{width}-{order}"))
    other = "be" if order == "le" else "le"
    with pytest.raises(UserError, match=f"encoded in {width.upper()}"):
        texts(path, encoding=f"{width}-{other}")
    assert texts(path, encoding=f"{width}-{order}") == texts(path, encoding=width) == [text]


def test_a_file_that_becomes_readable_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"The cat {name} sat on the mat. " * 40)
    (tmp_path / "c.txt").write_bytes(b"\0\1")
    out = tmp_path / "out"
    config = PrepareConfig(sources=(str(tmp_path),), out=out)
    first = prepare(config)
    assert prepare(config).n_skipped_sources == 3  # nothing has changed
    for append in (False, True):
        with pytest.raises(UserError, match="binary data"):
            prepare(PrepareConfig(sources=config.sources, out=out, strict=True, append=append))
    (tmp_path / "c.txt").write_text("now it is a text of its own " * 40)
    again = prepare(PrepareConfig(sources=(str(tmp_path),), out=out, append=True))
    assert (again.n_skipped_sources, again.train.n_documents) == (2, first.train.n_documents + 1)
    assert "binary files" not in again.left_out.counts


def test_json_lines_with_a_broken_line_are_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "corpus.log"
    path.write_text('{"text": "one two"}\n{"text": broken}\n{"text": "three"}\n')
    with pytest.raises(UserError, match="Choose the format") as caught:
        texts(path)
    assert caught.value.settings == {"format": "jsonl"}
    with pytest.raises(UserError, match=r"corpus\.log:2"):
        texts(path, format="jsonl")


def test_files_with_the_names_of_other_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("python-reference", "hf:x.txt", "-"):
        Path(name).write_text(f"the file {name}")
        assert texts(f"./{name}") == [f"the file {name}"]


def test_links_and_file_urls_to_what_groundup_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("the cat sat on the mat for long " * 40)
    prepare(PrepareConfig(sources=("a.txt",), out=Path("data")))
    Path("held.jsonl").symlink_to("data/corpus/validation.jsonl")
    left_out = LeftOut()
    assert [piece.name for piece in read_pieces(".", left_out=left_out)] == ["a.txt"]
    assert left_out.counts["files that groundup wrote"].examples == ["held.jsonl"]
    assert [piece.name for piece in read_pieces(f"file://{tmp_path}")] == ["a.txt"]
    with pytest.raises(UserError, match="written by groundup"):
        texts(f"file://{tmp_path}/data/corpus/train.jsonl")


def test_a_separator_with_any_line_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one two\r\nEND\r\nthree four\r\nEND\r\nfive six")
    for separator in ("\r\nEND\r\n", "\nEND\n", "END"):
        assert texts(path, separator=separator) == ["one two", "three four", "five six"]
    with pytest.raises(UserError, match="at least one character"):
        texts(path, separator="")
    left_out = LeftOut()
    list(read_pieces(path, ReadConfig(separator="STOP"), left_out=left_out))
    (tmp_path / "a.jsonl").write_text('{"text": "a END b"}\n')
    list(read_pieces(tmp_path / "a.jsonl", ReadConfig(separator="END"), left_out=left_out))
    assert left_out.total("Kept as they are") == 2


def test_a_separator_between_two_chunks(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * (2**20 - 2) + "<END>" + "y" * 2**20 + "<END>z")
    assert [len(text) for text in texts(path, separator="<END>")] == [2**20 - 2, 2**20, 1]


def test_folders_of_records(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LABELS)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "README.md").write_text("# about")
    (tmp_path / "cut.csv").write_text(LABELS + "only one\n")
    left_out = LeftOut()
    assert len(read_labels(tmp_path, left_out=left_out).rows) == 4
    assert left_out.total() == 3
    with pytest.raises(UserError, match=r"cut\.csv:6"):
        read_labels(tmp_path / "cut.csv")
    (tmp_path / "a.csv").unlink()
    with pytest.raises(UserError):
        read_conversations(tmp_path)


def test_a_table_without_a_suffix_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "table").write_text(LABELS)
    with pytest.raises(UserError) as caught:
        read_labels(tmp_path / "table")
    assert caught.value.settings == {"format": "csv"}


def test_the_header_of_a_tsv_with_one_known_name(tmp_path: Path) -> None:
    path = tmp_path / "sst.tsv"
    path.write_text("sentence\tlabel\nit is fun\t1\nbad film\t0\nlovely\t1\nawful\t0\n")
    assert read_labels(path).text_column == "sentence"
    assert len(read_labels(path, text_column="sentence").rows) == 4


def test_a_large_parquet_file_in_gzip(tmp_path: Path) -> None:
    rows = [os.urandom(200).hex() for _ in range(500)]
    pyarrow.parquet.write_table(pa.table({"text": rows}), tmp_path / "a.parquet")
    packed = tmp_path / "a.parquet.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert texts(packed) == texts(tmp_path / "a.parquet") == rows


def test_parquet_with_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="two columns named 'text'"):
        texts(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "text", ["PAR1 is golf.", "GGUF is a format.", "BZh is no word.", "PK\x03"]
)
def test_words_may_begin_like_a_binary_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert texts(tmp_path / "a.txt") == [text]


def test_lines_before_the_header_count(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\n\nid,text\n1,a\n2,"c\nd"\n3,x,y\n')
    with pytest.raises(UserError, match=r"a\.csv:7: This row has 3 columns"):
        texts(path)
    path.write_text("sep=;\nid;text\n1;hello, you\n")
    assert texts(path) == ["hello, you"]


def test_a_field_of_an_object_that_is_null_is_null(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"meta": null}\n{"meta": {"body": "x y"}}\n')
    with pytest.raises(UserError, match=r"'meta\.body' is null"):
        texts(path, text_field="meta.body")
    assert texts(path, text_field="meta.body", skip_empty=True) == ["x y"]


def test_a_source_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The cat sat on the mat. " * 40)
    words = (str(tmp_path / "a.txt"), str(tmp_path / "a.txt"), str(tmp_path))
    result = prepare(PrepareConfig(sources=words, out=tmp_path / "data"))
    assert result.train.n_documents == 1
    assert result.left_out.counts["sources that were named twice"].count == 2


@pytest.mark.parametrize("damage", ["[]", "5", '"x"', "null", '{"sides": 5}', '{"sides": {}}', "{"])
def test_a_damaged_manifest_is_a_sentence(tmp_path: Path, damage: str) -> None:
    (tmp_path / "a.txt").write_text("The cat sat on the mat. " * 40)
    config = PrepareConfig(sources=(str(tmp_path / "a.txt"),), out=tmp_path / "data")
    prepare(config)
    manifest = tmp_path / "data" / "corpus" / "manifest.json"
    manifest.write_text(damage)
    with pytest.raises(UserError, match=r"manifest\.json: This file"):
        prepare(PrepareConfig(sources=config.sources, out=config.out, append=True))


def test_a_line_of_a_corpus_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The cat sat on the mat. " * 40)
    prepare(PrepareConfig(sources=(str(tmp_path / "a.txt"),), out=tmp_path / "data"))
    file = tmp_path / "data" / "corpus" / "train.jsonl"
    file.write_bytes(b"}" + file.read_bytes()[1:])
    with pytest.raises(UserError, match=r"train\.jsonl: This file is corrupt"):
        list(read_corpus(tmp_path / "data", "train"))


def test_datasets_of_different_names_are_different_sources() -> None:
    left_out = LeftOut()
    sources = _distinct(["hf:a", "hf:b", "hf:a", "-", "python-reference"], left_out)
    assert [source.place for source in sources] == ["hf:a", "hf:b", "-", "python-reference"]
    assert left_out.total() == 1
