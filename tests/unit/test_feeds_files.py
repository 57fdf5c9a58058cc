"""feeds.files: recorded feeds into records."""

import gzip
import json
import re
from pathlib import Path

import pytest

from service.feeds import files
from service.feeds.record import Record

QUOTES = "ts_ms,symbol,bid,ask\n1000,BTC,61837.63,61837.64\n1087,ETH,2683.80,2683.81\n"


def write(path: Path, text: str) -> Path:
    """A file of that text, gzipped by its name."""
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["quotes.csv", "quotes.csv.gz"])
def test_csv(tmp_path: Path, name: str) -> None:
    """Rows become JSON objects; numbers keep the digits they were written with."""
    path = write(tmp_path / name, QUOTES)
    assert list(files.read(path)) == [
        Record(1000.0, "quotes:BTC", b'{"ts_ms":1000,"symbol":"BTC","bid":61837.63,"ask":61837.64}'),
        Record(1087.0, "quotes:ETH", b'{"ts_ms":1087,"symbol":"ETH","bid":2683.80,"ask":2683.81}'),
    ]
    assert files.count(path) == 2


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("1", "1"),
        ("-0.50", "-0.50"),
        ("007", '"007"'),
        ("1e5", '"1e5"'),
        ("", '""'),
        (" 1", '" 1"'),
        ("NaN", '"NaN"'),
        ("12345678901234567890123", '"12345678901234567890123"'),
        ('say ""hi""', r'"say \"hi\""'),
        ("Müller", '"Müller"'),
    ],
)
def test_csv_values(tmp_path: Path, value: str, literal: str) -> None:
    """Only what JSON writes as a number is one; all else is a string."""
    path = write(tmp_path / "x.csv", f'ts_ms,symbol,v\n1,A,"{value}"\n')
    (record,) = files.read(path)
    assert record.data.decode() == f'{{"ts_ms":1,"symbol":"A","v":{literal}}}'
    json.loads(record.data)


@pytest.mark.parametrize("name", ["chat.jsonl", "chat.jsonl.gz", "chat.ndjson"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    """A line is passed on as it is; blank lines are none."""
    line = '{"ts_ms": 5, "room": "go", "user": "u1", "text": "é"}'
    path = write(tmp_path / name, f"{line}\n\n{line.replace('5', '6')}\n")
    first, second = files.read(path)
    assert first == Record(5.0, "chat:go", line.encode())
    assert second.at_ms == 6.0
    assert files.count(path) == 2


@pytest.mark.parametrize(
    ("header", "channel"),
    [
        ("ts_ms,symbol,bid,ask", "quotes:A"),
        ("ts_ms,symbol,price,size", "quotes:A"),
        ("ts_ms,symbol,price,size,side", "trades:A"),
        ("ts_ms,room,text", "chat:A"),
        ("ts_ms,game,minute", "scores:A"),
    ],
)
def test_the_channel_follows_from_the_columns(tmp_path: Path, header: str, channel: str) -> None:
    """Without a template the columns tell what the rows are."""
    row = ",".join(["1", "A", *["2"] * (header.count(",") - 1)])
    (record,) = files.read(write(tmp_path / "x.csv", f"{header}\n{row}\n"))
    assert record.channel == channel


def test_a_template_wins(tmp_path: Path) -> None:
    """Any field can make the channel."""
    path = write(tmp_path / "x.csv", QUOTES)
    assert [record.channel for record in files.read(path, "feed:{symbol}-{bid}")] == [
        "feed:BTC-61837.63",
        "feed:ETH-2683.80",
    ]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("x.csv", "", "line 1: no column ts_ms; found nothing"),
        ("x.csv", "a,b\n1,2\n", "line 1: no column ts_ms; found a, b"),
        ("x.csv", "ts_ms,a\n1,2\n", "line 1: no channel for rows of ts_ms, a"),
        ("x.csv", "ts_ms,symbol,symbol\n1,2,3\n", "line 1: two columns have one name"),
        ("x.csv", "ts_ms,symbol\n1,A\n2\n", "line 3: 1 values for 2 columns"),
        ("x.csv", "ts_ms,symbol\nnoon,A\n", "line 2: ts_ms: read 'noon'; allowed: milliseconds"),
        ("x.csv", "ts_ms,symbol\nnan,A\n", "line 2: ts_ms: read 'nan'; allowed: milliseconds"),
        ("x.csv", "ts_ms,symbol\n1,A B\n", "line 2: channel 'quotes:A B': a channel name has no"),
        ("x.jsonl", "{}\n", "line 1: no field ts_ms; found nothing"),
        ("x.jsonl", "[1]\n", "line 1: not a JSON object"),
        ("x.jsonl", '{"ts_ms":1,"room":"a"}\n{"ts_ms":1}\n', "line 2: no field room"),
        ("x.jsonl", '{"ts_ms":1,"room":"a"}\nnonsense\n', "line 2: invalid literal"),
        ("x.jsonl", '{"ts_ms":null,"room":"a"}\n', "line 1: ts_ms: read None; allowed: milliseconds"),
        ("x.json", "[]", 'not a match file: a JSON object with a list "matches"'),
        ("x.txt", "", "not a name that ends in .csv, .jsonl or .json"),
    ],
)
def test_a_broken_file_names_the_line(tmp_path: Path, name: str, text: str, problem: str) -> None:
    """Each mistake is a ValueError that says where and what."""
    path = write(tmp_path / name, text)
    with pytest.raises(ValueError, match="^" + re.escape(problem)):
        list(files.read(path))


def test_broken_bytes(tmp_path: Path) -> None:
    """Half a gzip file and text that is not UTF-8 are ValueErrors too."""
    half = tmp_path / "half.csv.gz"
    half.write_bytes(gzip.compress(("ts_ms,symbol\n" + "1,A\n" * 1000).encode())[:-20])
    with pytest.raises(ValueError, match=r"ends early \(cut off\?\)"):
        list(files.read(half))
    latin = tmp_path / "latin.csv"
    latin.write_bytes("ts_ms,symbol\n1,M\xfcller\n".encode("latin-1"))
    with pytest.raises(ValueError, match="line 2: not UTF-8 text"):
        list(files.read(latin))
    no_gzip = tmp_path / "x.csv.gz"
    no_gzip.write_text(QUOTES)
    with pytest.raises(ValueError, match="not a gzip file, or a damaged one"):
        list(files.read(no_gzip))
    assert files.count(half) is files.count(no_gzip) is None  # told when it is read
    lines = tmp_path / "latin.jsonl"
    lines.write_bytes(b'{"ts_ms":1,"room":"a"}\n{"ts_ms":1,"room":"M\xfcller"}\n')
    with pytest.raises(ValueError, match="line 2: not UTF-8 text"):
        list(files.read(lines))


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("quotes:{isin}", r"the channel template names \{isin\}; a row has ts_ms, symbol"),
        ("quotes:{", "the channel template 'quotes:{': "),
        ("*:{symbol}", "has no '\\*'"),
    ],
)
def test_a_wrong_template(tmp_path: Path, template: str, problem: str) -> None:
    """A template that no row can fill is told before anything is written."""
    with pytest.raises(ValueError, match=problem):
        next(files.read(write(tmp_path / "x.csv", QUOTES), template))


def test_a_missing_file_is_an_oserror(tmp_path: Path) -> None:
    """A file that is not there is told apart from a broken one."""
    for name in ("no.csv", "no.csv.gz"):
        with pytest.raises(FileNotFoundError):
            list(files.read(tmp_path / name))
