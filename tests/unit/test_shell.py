"""Text of others is shown, and a printed path is one word of a shell."""

import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.shell import quoted, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;X\x07\x1b[31mRED", r"\x1b]0;X\x07\x1b[31mRED"),
        ("over\rwritten\x00", r"over\rwritten\x00"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202etxt.exe\u200b\u2066\ufeff", r"\u202etxt.exe\u200b\u2066\ufeff"),
        ("half \ud800", r"half \ud800"),
        ("a\nb\tc ü 漢 🙂 \\x1b", "a\nb\tc ü 漢 🙂 \\x1b"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "name",
    ["R&D #2", "a[b]c", "it's", "-rf", "a\nb", "$(id)", "ü", " ", "~", "*", "!x", "tab\there"],
)
def test_a_shell_reads_a_quoted_path_as_it_is(name):
    told = subprocess.run(
        ["bash", "-c", f"printf %s {quoted(name)}"], capture_output=True, check=True
    ).stdout
    assert told.decode() in {name, f"./{name}"}
    assert "\n" not in quoted(name)


@settings(max_examples=300)
@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = visible(text)
    obeyed = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert all(sign in "\n\t" or unicodedata.category(sign) not in obeyed for sign in shown)
    assert visible(shown) == shown
