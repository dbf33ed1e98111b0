"""Corpora of token ids: every layout gives the same documents, and every id that cannot be meant is named."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from clozelab import SpecialIds
from clozelab.data import IdTokenizer, load_corpus, load_tokenizer, pack
from clozelab.data.tokenizers.ids import special_ids_behind
from clozelab.errors import InputError

SPECIAL = SpecialIds(vocab_size=40, pad=0, eos=1, mask=2, sentinels=(39, 38), others=(3,), roles={"fim_prefix": 4})
DOCUMENTS = [[5 + (7 * n + t) % 30 for t in range(1 + n % 9)] for n in range(60)]


def everything(corpus):
    return sorted(document.tolist() for document in [*corpus.train, *corpus.heldout])


def rows(width=12):
    return np.array([document + [1] + [0] * (width - 1 - len(document)) for document in DOCUMENTS], np.int32)


def ended():
    return np.array([token for document in DOCUMENTS for token in (*document, 1)], np.uint16)


def write(folder, kind):
    path = folder / f"a.{kind}"
    if kind == "npy":
        np.save(path, rows())
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"input_ids": row, "n": 1.5}) + "\n" for row in DOCUMENTS))
    elif kind == "parquet":
        pq.write_table(pa.table({"input_ids": [*DOCUMENTS]}), path)
    else:
        with pa.ipc.new_file(
            path, (table := pa.table({"input_ids": pa.array(DOCUMENTS, pa.large_list(pa.uint8()))})).schema
        ) as file:
            file.write_table(table)
    return path


@pytest.mark.parametrize("kind", ["npy", "jsonl", "parquet", "arrow"])
def test_files_of_every_kind_hold_the_same_documents(kind, tmp_path):
    path = write(tmp_path, kind)
    corpus = load_corpus(path, special=SPECIAL)
    assert everything(corpus) == sorted(DOCUMENTS)
    assert corpus.report.unit == "token id"
    assert {tuple(one) for one in corpus.heldout} == {
        tuple(one) for one in load_corpus(DOCUMENTS, special=SPECIAL).heldout
    }
    if kind != "npy":
        assert everything(load_corpus(path, special=SPECIAL, streaming=True)) == sorted(DOCUMENTS)


@pytest.mark.parametrize(
    "source",
    [
        DOCUMENTS,
        rows(),
        rows().astype(">i8"),
        torch.tensor(rows()),
        ended(),
        ended().tolist,
        [torch.tensor(d) for d in DOCUMENTS],
    ],
    ids=["lists", "rows", "big-endian", "tensor", "one dimension", "generator", "list of tensors"],
)
def test_arrays_and_lists_are_corpora(source):
    source = (document for document in DOCUMENTS) if callable(source) else source
    assert everything(load_corpus(source, special=SPECIAL)) == sorted(DOCUMENTS)


def test_an_array_without_ends_of_text_is_one_document_split_by_position(tmp_path):
    np.save(tmp_path / "walk.npy", np.arange(1000) % 30 + 5)
    corpus = load_corpus(tmp_path / "walk.npy", special=SPECIAL)
    [train], [held] = corpus.train, corpus.heldout
    assert (len(train), len(held)) == (900, 100)
    assert isinstance(train, np.memmap)  # not in memory


def test_ends_of_text_inside_a_row_and_further_ids_may_stand():
    corpus = load_corpus([[3, 5, 1, 6], [7, 8, 1], [9, 9], *DOCUMENTS], special=SPECIAL)
    assert everything(corpus) == sorted([*DOCUMENTS, [3, 5, 1, 6], [7, 8], [9, 9]])


BAD = {
    "negative": ([5, -1], "id -1 in place 1 is negative: expected 0 to 39"),
    "too large": ([5, 6, 40], "id 40 in place 2 is too large: expected 0 to 39"),
    "mask": ([2, 5], "id 2 in place 0 is that of mask, which stands in no document"),
    "a sentinel": ([5, 38], "id 38 in place 1 is that of sentinel"),
    "a role": ([4], "id 4 in place 0 is that of fim_prefix"),
    "padding inside": ([5, 0, 6], "id 0 in place 1 is that of pad"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_id_that_cannot_be_meant_is_refused_with_file_row_and_value(name, tmp_path):
    bad, message = BAD[name]
    documents = [*DOCUMENTS, bad]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in documents))
    pq.write_table(pa.table({"input_ids": documents}), tmp_path / "a.parquet")
    flat = [token for document in documents for token in (*document, 1)]
    np.save(tmp_path / "a.npy", np.array(flat))
    places = {"a.jsonl": ", line 61", "a.parquet": ", row 61", "a.npy": ""}
    for file, place in places.items():
        told = message
        if file == "a.npy":
            at = int(message.split("place ")[1].split()[0])
            told = message.replace(f"place {at}", f"place {len(flat) - len(bad) - 1 + at}")
        with pytest.raises(InputError, match=f"{tmp_path}/{file}{place}: {told}"):
            load_corpus(tmp_path / file, special=SPECIAL)
        corpus = load_corpus(tmp_path / file, special=SPECIAL, skip_bad_rows=True)
        assert everything(corpus) == sorted(DOCUMENTS)
        assert corpus.report.counts.bad == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('["a"]', "'a' in place 0 is no whole number"),
        ("[1.5]", "1.5 in place 0 is no whole number"),
        ("[5, true]", "True in place 1 is no whole number"),
        ("[5, null]", "None in place 1 is no whole number"),
        ("[[5]]", r"\[5\] in place 0 is no whole number"),
        ('"5 6"', "str '5 6', expected a list of token ids"),
        ("7", "int 7, expected a list"),
        (f"[{10**30}]", "a number beyond 64 bits"),
        ("[1" + "0" * 5000 + "]", "a number of more than 4,300 digits"),
    ],
)
def test_what_is_no_list_of_ids(value, reason, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"input_ids": [5, 6]}\n{"input_ids": ' + value + "}\n")
    with pytest.raises(InputError, match=f"a.jsonl, line 2: {reason}"):
        load_corpus(tmp_path, special=SPECIAL)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(9), r"holds float64 of shape \(9,\), expected whole numbers of shape \(N,\) or \(N, T\)"),
        (np.zeros((2, 2, 2), int), r"holds int64 of shape \(2, 2, 2\)"),
        (np.array(5), r"holds int64 of shape \(\)"),
        (np.array([True]), "holds bool"),
        (np.array([[5], "x"], object), "cannot be read as a NumPy array of whole numbers: .*Python objects"),
        (b"", "is empty"),
        (b"\x93NUMPY\x01\0", "cannot be read as a NumPy array"),
        (b'{"input_ids": [5]}', "cannot be read as a NumPy array"),
        (b"PK\x03\x04", "cannot be read as a NumPy array|holds several"),
    ],
)
def test_a_file_that_is_no_array_of_ids(array, message, tmp_path):
    path = tmp_path / "a.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array)
    with pytest.raises(InputError, match=message):
        load_corpus(path, special=SPECIAL)


def test_a_cut_array_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", ended())
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-10])
    with pytest.raises(InputError, match="cannot be read as a NumPy array"):
        load_corpus(tmp_path / "a.npy", special=SPECIAL)


def test_text_and_ids_are_not_confused(tmp_path):
    (tmp_path / "a.txt").write_text("5 6 7")
    (tmp_path / "a.csv").write_text("input_ids\n5 6 7\n")
    np.save(tmp_path / "a.npy", ended())
    write(tmp_path, "parquet")
    for name, message in (("a.txt", "is text, and token ids are read from"), ("a.csv", "is CSV, and token ids")):
        with pytest.raises(InputError, match=message):
            load_corpus(tmp_path / name, special=SPECIAL)
    with pytest.raises(InputError, match=r"holds numbers: are they token ids\? .*--tokenizer ids"):
        load_corpus(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"holds list<.*are they token ids\?"):
        load_corpus(tmp_path / "a.parquet", text_column="input_ids")
    with pytest.raises(InputError, match="a NumPy array is packed, and not streamed"):
        load_corpus(tmp_path / "a.npy", special=SPECIAL, streaming=True)
    with pytest.raises(InputError, match="the builtin corpus is text"):
        load_corpus("builtin", special=SPECIAL)


# ------------------------------------------------------------------ in place of a tokenizer


def test_ids_are_packed_as_they_are():
    tokenizer = IdTokenizer(SPECIAL)
    packed = pack([np.array(document) for document in DOCUMENTS], tokenizer)
    assert packed.tokens.tolist() == ended().tolist()
    assert (packed.documents, packed.bytes, packed.byte_counts) == (60, 0, None)
    long = np.full(2**20 + 7, 5, np.uint16)
    assert len(pack([long], tokenizer)) == 2**20 + 8
    with pytest.raises(InputError, match="id 2 in place 1 is that of mask"):
        pack([[5, 2]], tokenizer)


def test_special_ids_come_back_from_their_file(tmp_path):
    IdTokenizer(SPECIAL).save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json", sentinels=7, roles=["mask"])
    assert loaded.special == SPECIAL
    assert loaded.fingerprint == IdTokenizer(SPECIAL).fingerprint
    (tmp_path / "tokenizer.json").write_text('{"token_ids": {"vocab_size": 3, "pad": 5, "eos": 1}}')
    with pytest.raises(InputError, match="is damaged: it describes no special ids"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("text", ["5 x", "5 -1", "5 2", "5 99", "0x5", "٥"])
def test_a_prompt_is_numbers(text):
    with pytest.raises(InputError, match="expected token ids"):
        IdTokenizer(SPECIAL).encode(text)


def test_special_ids_behind_those_of_the_corpus_are_no_part_of_it():
    """Else a corpus with more ids than was said would be cut at one of them, taken for the end of text."""
    special, _ = special_ids_behind(20, {}, 0)
    assert special.eos == 21
    for source in (np.array([5, 21, 6]), [[5, 21]], [[5, 20]]):
        with pytest.raises(InputError, match=r"id 2[01] in place 1 is too large: expected 0 to 19"):
            load_corpus(source, special=special, id_count=20)


def test_missing_special_ids_are_added_behind_those_of_the_corpus():
    special, [note] = special_ids_behind(128, {"eos": 0, "unk": 7, "mask": None, "fim_prefix": None}, 2)
    assert special.named == {"pad": 128, "eos": 0, "mask": 129, "fim_prefix": 130}
    assert (special.sentinels, special.others, special.vocab_size) == ((132, 131), (7,), 133)
    assert note == "pad 128, mask 129, fim_prefix 130, sentinels 131 to 132, added behind the 128 ids of the corpus"
    for roles in ({"pad": 128}, {"pad": "<pad>"}, {"pad": -1}):
        with pytest.raises(InputError, match="pad: expected an id of the corpus, 0 to 127"):
            special_ids_behind(128, roles, 0)


def test_leaving_out_the_only_document_is_not_advised(tmp_path):
    """A flat array without an end of text is one; with one, its other documents are left."""
    path = tmp_path / "a.npy"
    np.save(path, np.array([5, 6, 41, 7]))
    with pytest.raises(InputError, match=r"id 41 in place 2 is too large: expected 0 to 39$"):
        load_corpus(path, special=SPECIAL)
    with pytest.raises(
        InputError, match=r"holds no token ids: its rows are left out, 1 not readable; .*id 41 in place 2"
    ):
        load_corpus(path, special=SPECIAL, skip_bad_rows=True)
    np.save(path, np.array([5, 6, 41, 7, 1, 8, 9]))
    with pytest.raises(InputError, match=r"0 to 39 \(skip_bad_rows=True leaves out such rows\)$"):
        load_corpus(path, special=SPECIAL)
    assert everything(load_corpus(path, special=SPECIAL, skip_bad_rows=True, split="position")) == [[8], [9]]
