"""Tables of text: what can be read is read whole, the rest is refused."""

import csv
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs_plugins.data.sources import Varying, find_file, read_rows, text_of
from fs_plugins.errors import UserError

# The standard csv module of Python 3.10 reads no NUL.
texts = st.text(
    st.one_of(
        st.sampled_from(
            "\",'\n\r\t\ufeff\u2028\u0085\x0b\x1c\u00e9\U0001f600"
        ),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    max_size=12,
)
tables = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)


def write(file, kind, rows):
    if kind == "csv":
        with open(file, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["one", "other"])
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif kind == "json":
        file.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    else:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        file.write_bytes("\n".join(lines).encode())


# Without the time, which would be a part of a test's name.
CUT_OFF = gzip.compress(b'{"a": 1}\n' * 999, mtime=0)[:-12]
SPOILT = gzip.compress(b"{}", mtime=0)[:12] + b"\xff" * 9


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
@given(rows=tables)
def test_any_text_comes_back_as_it_was_written(kind, rows, tmp_path_factory):
    rows = [{"one": one, "other": other} for one, other in rows]
    file = tmp_path_factory.mktemp("table") / f"train.{kind}"
    write(file, kind, rows)
    assert [dict(row) for _, row in read_rows(file)] == rows


@given(
    st.lists(
        st.lists(
            st.text(
                st.characters(
                    exclude_categories=["Cs"], exclude_characters="\0\t\r\n"
                ),
                min_size=1,
            ),
            min_size=2,
            max_size=2,
        )
    )
)
def test_a_tsv_has_no_quoting(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("table") / "train.tsv"
    lines = "".join(f"{one}\t{other}\n" for one, other in rows)
    file.write_bytes(f"one\tother\n{lines}".encode())
    assert [list(row.values()) for _, row in read_rows(file)] == rows


KINDS = {
    "tsv": "text\tlabel\nfine\t1\n",
    "csv": "text,label\nfine,1\n",
    "json": '[{"text": "fine", "label": "1"}]',
    "jsonl": '{"text": "fine", "label": "1"}\n',
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_zipped", [False, True])
def test_a_byte_order_mark_and_gzip(tmp_path, kind, is_zipped):
    raw = KINDS[kind].encode("utf-8-sig")
    file = tmp_path / f"train.{kind}{'.gz' if is_zipped else ''}"
    file.write_bytes(gzip.compress(raw, mtime=0) if is_zipped else raw)
    assert [dict(row) for _, row in read_rows(file)] == [
        {"text": "fine", "label": "1"}
    ]


def latin_1(kind):
    return KINDS[kind].replace("fine", "caf\u00e9").encode("latin-1")


@pytest.mark.parametrize(
    "kind, content, words",
    [
        *((kind, KINDS[kind].encode("utf-16"), "line 1: .*UTF-16") for kind
          in KINDS),
        *((kind, KINDS[kind].encode("utf-16-le"), "line 1: .*UTF-16") for kind
          in KINDS),
        ("tsv", latin_1("tsv"), "line 2: not UTF-8.*0xe9.*save .* as UTF-8"),
        ("csv", latin_1("csv"), "line 2: not UTF-8"),
        ("csv", b"caf\xe9,text\nx,y\n", "line 1: not UTF-8"),
        ("csv", b"a,b\n" + b"x,y\n" * 9000 + b"caf\xe9,y\n", "line 9002: not"),
        ("csv", b"a,b\rx,y\rcaf\xe9,y\r", "line 3: not UTF-8"),
        ("json", latin_1("json"), "line 1: not UTF-8"),
        ("jsonl", b"{}\n" + latin_1("jsonl"), "line 2: not UTF-8"),
        # one column more, or less, than the header
        ("csv", b"a,b\nx,y\nx, y,z\n", "line 3: 3 columns, expected 2.*comma"),
        ("tsv", b"a\tb\nx\ty\nx\ty\tz\n", "line 3: 3 columns, .* 2.*tab"),
        ("csv", b"a,b\nx,y,\n", "line 2: 3 columns, expected 2"),
        ("csv", b"a,b,,\nx, y,z,\n", "line 2: a value in a column .* no name"),
        ("csv", b"a,b\n\nx,y\nx\n", "line 4: 1 columns, expected 2$"),
        ("csv", b'a,b\n"x\nx",y\n"x\n\nx"\n', "line 4: 1 columns"),
        # quotes
        ("csv", b'a,b\nx,y\nx,"y\nx,y\n', "line 3: .*quote"),
        ("csv", b'a,b\n"x" or "y",z\n', "line 2: .*quotes doubled"),
        # one name for two
        ("csv", b"a,b,a\nx,y,z\n", "line 1: there are 2 columns 'a'"),
        ("csv", b"\xef\xbb\xbfa,b,a\nx,y,z\n", "line 1: .*2 columns 'a'"),
        ("jsonl", b'{"a": 1}\n{"a": 1, "a": 2}', "line 2: the key 'a'.*twice"),
        ("jsonl", b'{"a": [{"b": 1, "b": 2}]}', "line 1: the key 'b'.*twice"),
        ("json", b'[{"a": 1},\n{"a": 1, "a": 2}]',
         r"record 2 \(line 2\): the key 'a' is there twice"),
        # JSON
        ("json", b'{"a": 1}\n{"a": 2}\n', "JSON lines; name the file .jsonl"),
        ("json", b'{"a": 1}', "not a list of JSON objects"),
        ("json", b"3", "not a list of JSON objects"),
        ("json", b'[{"a": 1}, 2]', r"not a list .*\(record 2 is none\)"),
        ("json", b'[{"a": 1}\n{"a": 2}]', "line 2: not JSON .*record 1"),
        ("json", b'[{"a": 1},]', "record 2 .*not JSON"),
        ("json", b'[{"a": 1}] 2', "not JSON"),
        ("json", b'[{"a": 1}', "not JSON"),
        ("json", b"[" * 100_000, "nested too deeply"),
        ("json", b"", "empty"),
        ("jsonl", b'{"a": ' + b"[" * 100_000, "line 1: .*nested too deeply"),
        ("jsonl", b'[{"a": 1}]', "line 1: not a JSON object.*json"),
        ("jsonl", b"2\n", "line 1: not a JSON object$"),
        ("jsonl.gz", CUT_OFF, "cannot be"),
        ("jsonl.gz", SPOILT, "cannot be"),
        ("tsv.gz", b"no gzip", "line 1: it cannot be read"),
        ("parquet", b"no parquet", "cannot be read: .*magic bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(tmp_path, kind, content, words):
    file = tmp_path / f"train.{kind}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        list(read_rows(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_text_is_read_and_the_limit_is_as_before(tmp_path):
    long, limit = "w " * 200_000, csv.field_size_limit()
    for kind, quote in (("csv", '"'), ("tsv", "")):
        file = tmp_path / f"train.{kind}"
        between = "," if kind == "csv" else "\t"
        file.write_text(f"a{between}b\n{quote}{long}{quote}{between}1\n")
        for _, row in read_rows(file):
            assert row == {"a": long, "b": "1"}
            assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    "content, rows",
    [
        (",a,b\n0,x,y\n", [{"": "0", "a": "x", "b": "y"}]),
        ("\n\na,b\n\nx,y\n\n", [{"a": "x", "b": "y"}]),
        ("a,b,,\nx,y,,\n", [{"a": "x", "b": "y", "": ""}]),
        ("a,b\rx,y\r", [{"a": "x", "b": "y"}]),
        ("a,b\r\nx,y\r\n", [{"a": "x", "b": "y"}]),
        ("a,b\n,\n", [{"a": "", "b": ""}]),
        ("a,b\n", []),
        ("", []),
    ],
)
def test_harmless_oddities_of_a_csv(tmp_path, content, rows):
    file = tmp_path / "train.csv"
    file.write_bytes(content.encode())
    assert [dict(row) for _, row in read_rows(file)] == rows


def test_columns_of_which_a_row_may_have_more_or_fewer(tmp_path):
    file = tmp_path / "train.tsv"
    varying = Varying(("v1", "v2"), frozenset("01"))

    def values(header, row):
        file.write_text(f"{header}\n{row}\n".replace(" ", "\t"))
        ((_, found),) = read_rows(file, varying=varying)
        return found["a"], found["b"]

    assert values("a v1 v2 b", "x 0 1 y") == ("x", "y")
    assert values("a v1 v2 b", "x y") == ("x", "y")
    assert values("a v1 b", "x 0 1 1 0 y") == ("x", "y")
    assert values("a b v1 v2", "x y 0") == ("x", "y")
    for header, row in (
        ("a v1 b", "x z 0 y"),
        ("a v1 v2 b", "x"),
        ("a b", "x 0 y"),
        ("a v1 b", "x 0 0 y z"),
    ):
        with pytest.raises(UserError, match=r"line 2: . columns, expected"):
            values(header, row)


def test_broken_rows_are_left_out_only_where_that_is_asked_for(tmp_path):
    file = tmp_path / "train.tsv"
    file.write_text("a\tb\nx\ty\nx\n\nz\nu\tv\n")
    left_out: list[int] = []
    rows = [row["a"] for _, row in read_rows(file, left_out=left_out)]
    assert rows == ["x", "u"] and left_out == [3, 5]
    with pytest.raises(UserError, match="line 3: 1 columns"):
        list(read_rows(file))


def test_a_parquet_with_one_name_for_two_columns(tmp_path):
    file = tmp_path / "train.parquet"
    table = pyarrow.table([["x"], ["y"]], names=["a", "a"])
    pyarrow.parquet.write_table(table, file)
    with pytest.raises(UserError, match=r"train\.parquet: .*2 columns 'a'"):
        list(read_rows(file))


def test_two_files_for_one_are_refused(tmp_path):
    (tmp_path / "train.csv").touch()
    assert find_file(tmp_path, ["dev"]) is None
    assert find_file(tmp_path, ["train"]) == tmp_path / "train.csv"
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(UserError, match=r"train\.csv and train\.jsonl"):
        find_file(tmp_path, ["train"])


@pytest.mark.parametrize(
    "value, text",
    [("", ""), ("\0", "\0"), (3, "3"), (0.5, "0.5"), (False, "False"),
     (b"caf\xc3\xa9", "caf\u00e9")],
)  # fmt: skip
def test_a_field_as_a_text(value, text):
    assert text_of(value, "a", "here") == text


@pytest.mark.parametrize(
    "value, words",
    [
        (None, "here: the value of 'a' is missing"),
        (float("nan"), "here: the value of 'a' is missing"),
        (["x"], "here: 'a' is not a text"),
        ({}, "here: 'a' is not a text"),
        ("x\ud83d", "here: 'a' is not valid Unicode text"),
        (b"caf\xe9", "here: 'a' is not valid Unicode text"),
    ],
)
def test_a_field_that_is_no_text(value, words):
    with pytest.raises(UserError, match=words):
        text_of(value, "a", "here")
