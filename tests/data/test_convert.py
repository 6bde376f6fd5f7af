"""`groundup.convert`: from a token store to another project's file and back, as a function."""

import dataclasses
from pathlib import Path

import pytest

from groundup import ConvertConfig, TokenStore, UserError, convert


@pytest.mark.parametrize("format", ["nanogpt", "llmc", "megatron"])
def test_a_store_and_back(data: Path, tmp_path: Path, format: str, capsys) -> None:
    there = ConvertConfig(source=data / "train", out=tmp_path / "t.bin", to_format=format)  # type: ignore[arg-type]
    written = convert(there)
    assert written.files[0] == tmp_path / "t.bin"
    back = ConvertConfig(
        source=tmp_path / "t.bin",
        from_format=format,  # type: ignore[arg-type]
        to_format="store",
        out=tmp_path / "store",
        tokenizer=data / "tokenizer",
    )
    assert convert(back).files == [tmp_path / "store"]
    first, again = TokenStore.open(data / "train"), TokenStore.open(tmp_path / "store")
    assert written.n_tokens == first.n_tokens
    # These tokens do not end with end-of-text; a new store closes every document with it.
    n = first.n_tokens
    assert again.read(0, n).tolist() == first.read(0, n).tolist()
    assert capsys.readouterr().out == "", "a library function prints nothing"


def test_what_cannot_be_converted_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Exactly one of them must be a token store.*to_format='s"):
        convert(ConvertConfig(from_format="llmc", to_format="megatron"))
    with pytest.raises(UserError, match=r"Exactly one of them .*to_format='nanogpt'"):
        convert(ConvertConfig(from_format="store", to_format="store"))
    absent = ConvertConfig(source=tmp_path / "no.bin", from_format="llmc", to_format="store")
    with pytest.raises(UserError, match=r"no\.bin: There is no such file"):
        convert(absent)
    (tmp_path / "no.bin").write_bytes(b"\0\0")
    with pytest.raises(UserError, match=r"vocabulary.*tokenizer="):
        convert(absent)
    with pytest.raises(UserError, match=r"data folder, not a token store.*train or .*validation"):
        convert(ConvertConfig(source=data, out=tmp_path / "t.bin"))


def test_the_function_is_not_hidden_by_a_module() -> None:
    import groundup.data.convert
    import groundup.data.ledger
    import groundup.data.verify

    assert callable(groundup.convert)
    assert callable(groundup.ledger)
    assert callable(groundup.verify)


def test_ids_that_the_tokenizer_does_not_have_are_named(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.bin"
    path.write_bytes(b"\xff\xff\x01\x00")
    config = ConvertConfig(
        source=path, from_format="nanogpt", to_format="store", out=tmp_path / "store",
        tokenizer=data / "tokenizer",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"t\.bin: Token 0 has the id 65,535\. Ids from 0 to"):
        convert(config)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "format", "free"),
    [
        ("t.bin", "nanogpt", "t-2.bin"),
        ("t.bin", "megatron", "t-2.bin"),
        ("t", "llmc", "t-2"),
        ("t", "megatron", "t-2"),
        ("t.v1", "megatron", "t-2.v1"),
    ],
)
def test_nothing_is_replaced_without_overwrite(
    data: Path, tmp_path: Path, name: str, format: str, free: str
) -> None:
    config = ConvertConfig(source=data / "train", out=tmp_path / name, to_format=format)  # type: ignore[arg-type]
    first = convert(config)
    before = {path: path.read_bytes() for path in first.files}
    with pytest.raises(UserError, match="something at this place") as caught:
        convert(config)
    assert caught.value.settings == {"out": tmp_path / free}
    assert {path: path.read_bytes() for path in first.files} == before
    convert(dataclasses.replace(config, out=tmp_path / free))
    assert convert(dataclasses.replace(config, overwrite=True)).files == first.files


@pytest.mark.parametrize("format", ["nanogpt", "llmc", "megatron"])
def test_a_source_is_not_written_over(data: Path, tmp_path: Path, format: str) -> None:
    source = data / "train"
    (tmp_path / "link").symlink_to(source)
    to_file = ConvertConfig(source=source, to_format=format, overwrite=True)  # type: ignore[arg-type]
    inside = [source / "tokens-00000.bin", tmp_path / "link" / "tokens-00000.bin"]
    for out in inside if format == "megatron" else [*inside, source, data]:
        with pytest.raises(UserError, match="This is the source") as refused:
            convert(dataclasses.replace(to_file, out=out))
        suggested = refused.value.settings["out"]
        assert isinstance(suggested, Path)
        files = convert(dataclasses.replace(to_file, out=suggested)).files
    TokenStore.open(source).verify()
    for out in (files[-1], files[-1].parent):
        with pytest.raises(UserError, match="This is the source"):
            convert(
                ConvertConfig(
                    source=files[0],
                    from_format=format,  # type: ignore[arg-type]
                    to_format="store",
                    out=out,
                    tokenizer=data / "tokenizer",
                    overwrite=True,
                )
            )
    assert all(file.is_file() for file in files)


def test_a_store_that_a_run_needs_is_not_replaced(data: Path, tmp_path: Path) -> None:
    convert(ConvertConfig(source=data / "train", out=tmp_path / "t.bin"))
    with pytest.raises(UserError, match="something at this place"):
        convert(
            ConvertConfig(
                source=tmp_path / "t.bin",
                from_format="nanogpt",
                to_format="store",
                out=data / "validation",
                tokenizer=data / "tokenizer",
            )
        )
