"""The `.env` format and its expansion. Expected values: dotenv 16.6 and dotenv-expand 12 run on the same text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrangler_compat.dotenv import ExpansionError, expand, parse_dotenv

FILES: dict[str, tuple[str, dict[str, str]]] = {
    "nothing": ("", {}),
    "equals sign": ("A=1\nB = 2\nC= 3", {"A": "1", "B": "2", "C": "3"}),
    "colon needs white space": ("A: 1\nB:2", {"A": "1"}),
    "export": ("export A=1\n  export  B=2\nexported=3", {"A": "1", "B": "2", "exported": "3"}),
    "characters of a name": ("a_1.b-C=1\nA B=2\nÄ=3", {"a_1.b-C": "1"}),
    "empty values": ("A=\nB=\"\"\nC=' '\nD=", {"A": "", "B": "", "C": " ", "D": ""}),
    "value on the next line": ('A=\n"x"', {"A": "x"}),
    "later equals signs": ("A=b=c==", {"A": "b=c=="}),
    "comments": ("# A=1\nB=2 # two\nC=a#b\n  #D=4", {"B": "2", "C": "a"}),
    "hash inside quotes": ("A='a#b'\nB=\"a # b\" # c\nC=`#`", {"A": "a#b", "B": "a # b", "C": "#"}),
    "lines without an assignment": ("hello\nA=1\n===\nB", {"A": "1"}),
    "last of equal names": ("A=1\nA=2", {"A": "2"}),
    "white space is cut outside quotes": ("A=  x y\t \nB='  x '", {"A": "x y", "B": "  x "}),
    "no-break space is white space": ("A=\u00a0x\u00a0", {"A": "x"}),
    "unit separator is not": ("A=\x1fx", {"A": "\x1fx"}),
    "quotes span lines": ("A='1\n2'\nB=\"3\n4\"\nC=`5\n6`", {"A": "1\n2", "B": "3\n4", "C": "5\n6"}),
    "line feeds of double quotes only": (
        "A=\"a\\nb\\rc\"\nB='a\\nb'\nC=a\\nb\nD=`a\\nb`",
        {"A": "a\nb\rc", "B": "a\\nb", "C": "a\\nb", "D": "a\\nb"},
    ),
    "an escaped quote keeps its backslash": ('A="a\\"b"', {"A": 'a\\"b'}),
    "quotes inside other quotes": ("A='a\"b'\nB=\"it's\"\nC=`'\"`", {"A": 'a"b', "B": "it's", "C": "'\""}),
    "an open quote is text": ("A='x\nB=1", {"A": "'x", "B": "1"}),
    "quotes inside a value": ("A=a'b'", {"A": "a'b'"}),
    "carriage returns": ("A=1\r\nB=2\rC='3\r\n4'", {"A": "1", "B": "2", "C": "3\n4"}),
    "byte-order mark": ("\ufeffA=1", {"A": "1"}),
    "line separator ends a line": ("A='1'\u2028B=2", {"A": "1", "B": "2"}),
    "dollars are left alone": ("A=$B\nB=${A:-x}", {"A": "$B", "B": "${A:-x}"}),
    "JSON": ("A='{\"a\": [1, 2]}'", {"A": '{"a": [1, 2]}'}),
}


@pytest.mark.parametrize(("text", "values"), FILES.values(), ids=FILES)
def test_a_file_of_variables_is_read_as_dotenv_reads_it(text: str, values: dict[str, str]) -> None:
    assert parse_dotenv(text) == values


@given(st.text())
def test_no_text_is_refused(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_dotenv(text).values())


NAMES = st.text("ABC_abc.-012", min_size=1).filter(lambda name: name != "export")
QUOTABLE = st.text(st.characters(codec="ascii", exclude_characters="'\r"))


@given(st.dictionaries(NAMES, QUOTABLE))
def test_what_stands_in_single_quotes_comes_back_unchanged(values: dict[str, str]) -> None:
    # A closing backslash would escape the quote.
    values = {name: value for name, value in values.items() if not value.endswith("\\")}
    text = "\n".join(f"{name}='{value}'" for name, value in values.items())
    assert parse_dotenv(text) == values


# values of the files, the process environment, what becomes of the values
EXPANSIONS: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {
    "plain": ({"A": "1", "B": "$A-${A}"}, {}, {"A": "1", "B": "1-1"}),
    "unknown names are empty": ({"A": "x$NO${NO}y"}, {}, {"A": "xy"}),
    "default": ({"A": "${NO:-d}", "B": "${NO-d}"}, {}, {"A": "d", "B": "d"}),
    "default not needed": ({"A": "1", "B": "${A:-d}${A-d}"}, {}, {"A": "1", "B": "11"}),
    "default for an empty value": ({"E": "", "A": "${E:-d}", "B": "${E-d}"}, {}, {"E": "", "A": "d", "B": "d"}),
    "default with the operator in it": ({"A": "${NO:-a:-b}"}, {}, {"A": "a:-b"}),
    "alternative": ({"A": "1", "B": "${A:+x}${A+y}", "C": "${NO:+x}${NO+y}"}, {}, {"A": "1", "B": "xy", "C": ""}),
    "alternative for an empty value": ({"E": "", "A": "${E:+x}", "B": "${E+x}"}, {}, {"E": "", "A": "", "B": ""}),
    "nested": ({"A": "1", "B": "${NO:-${A}}"}, {}, {"A": "1", "B": "1"}),
    "only earlier names": ({"A": "$B", "B": "1"}, {}, {"A": "", "B": "1"}),
    "chain": ({"A": "1", "B": "$A", "C": "$B"}, {}, {"A": "1", "B": "1", "C": "1"}),
    "escaped": ({"A": "\\$HOME", "B": "\\${HOME}"}, {}, {"A": "$HOME", "B": "${HOME}"}),
    "escaped beside another": ({"A": "1", "B": "$A \\$B"}, {}, {"A": "1", "B": "1 $B"}),
    "dollar that begins nothing": ({"A": "5$", "B": "$1", "C": "a$$"}, {}, {"A": "5$", "B": "$1", "C": "a$$"}),
    "self": ({"A": "${A:-d}", "B": "$B"}, {}, {"A": "d", "B": ""}),
    "JavaScript's replacement patterns": ({"A": "$$", "B": "<$A>"}, {}, {"A": "$$", "B": "<$>"}),
    "process fills in": ({"A": "$P"}, {"P": "p"}, {"A": "p"}),
    "process wins": ({"A": "file", "B": "$A"}, {"A": "process"}, {"A": "process", "B": "process"}),
    "an empty process value does not": ({"A": "file"}, {"A": ""}, {"A": "file"}),
    "the same value in the process is expanded": ({"A": "$P"}, {"A": "$P", "P": "p"}, {"A": "p"}),
}


@pytest.mark.parametrize(("values", "process", "expanded"), EXPANSIONS.values(), ids=EXPANSIONS)
def test_references_are_expanded_as_dotenv_expand_does(
    values: dict[str, str], process: dict[str, str], expanded: dict[str, str]
) -> None:
    assert expand(values, process) == expanded


ENDLESS = {
    "a value that holds its own name": {"A": "\\$A", "B": "x$A"},
    "a long value": {"A": "\\$A-" + "y" * 5000, "B": "x$A"},
    "doubling": {"A": "\\$A\\$A", "B": "x$A"},
    "JavaScript's replacement pattern": {"A": "a$& b", "B": "<$A>"},
}


@pytest.mark.parametrize("values", ENDLESS.values(), ids=ENDLESS)
def test_a_reference_without_end_is_refused_by_name_alone(values: dict[str, str]) -> None:
    with pytest.raises(ExpansionError) as caught:
        expand(values, {})
    assert caught.value.name == "B"
    assert str(caught.value) == 'the references in "B" do not end'
