"""What others wrote cannot steer a terminal, and a console without UTF-8 gets plain signs."""

import io
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from rich.table import Table

from flywheel.cli.app import init
from flywheel.cli.printing import print_trace
from flywheel.cli.terminal import Terminal
from flywheel.report import Event

HOSTILE = "\x1b]0;X\x07\x1b[31mRED"
SHOWN = r"\x1b]0;X\x07\x1b[31mRED"


@pytest.fixture
def terminal():
    return Terminal(file=io.StringIO(), width=200, force_terminal=True)


def printed(terminal):
    return terminal.file.getvalue()


def test_the_life_of_a_sample_sends_nothing_of_its_metadata(terminal):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    print_trace([Event(at=at, what="prediction", detail=f'{{"scan": "{HOSTILE}"}}')], terminal)
    assert SHOWN in printed(terminal)
    assert HOSTILE not in printed(terminal)


def test_a_line_is_printed_as_it_is(terminal):
    terminal.say(f"a[b]c [bold]R&D #2[/] :smile: {HOSTILE}")
    assert printed(terminal) == f"a[b]c [bold]R&D #2[/] :smile: {SHOWN}\n"


def test_cells_of_a_table_are_shown(terminal):
    table = Table(box=None)
    table.add_column("detail")
    table.add_row(HOSTILE)
    terminal.print(table)
    assert SHOWN in printed(terminal)
    assert "\x1b[31m" not in printed(terminal)


def test_our_own_colors_stay(terminal):
    terminal.print("[red]x[/]", highlight=False)
    assert "\x1b[31mx\x1b[0m" in printed(terminal)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_knows_no_utf_8_gets_plain_signs(encoding):
    """`PYTHONIOENCODING=ascii flywheel check` ended in a traceback at the first tick."""
    code = (
        "from flywheel.cli.terminal import Terminal, complain, prepare_streams\n"
        "prepare_streams()\n"
        "Terminal().print('[green]✓[/] done … ✗ 漢 \\udcff')\n"
        "complain('no ✓')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    out = done.stdout.decode(encoding)
    assert out.startswith("ok done ")
    assert r"x \u6f22 \udcff" in out
    assert done.stderr.decode(encoding) == "flywheel: no ok\n"


def test_a_folder_with_signs_is_printed_as_a_shell_needs_it(tmp_path, capsys):
    init(tmp_path / "R&D #2")
    assert f"next: flywheel check '{tmp_path}/R&D #2'\n" in capsys.readouterr().out


def test_brackets_of_a_folder_are_no_markup(tmp_path, capsys):
    init(tmp_path / "a[b]c")
    assert f"wrote {tmp_path}/a[b]c/flywheel.toml" in capsys.readouterr().out


def test_the_command_itself_prints_plain_signs_there(tmp_path):
    """`flywheel init` in a folder with an accent, as on a machine with LANG=C."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flywheel", "init", str(tmp_path / "teil-é")],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"teil-\\xe9" in done.stdout
    assert done.stderr == b""
