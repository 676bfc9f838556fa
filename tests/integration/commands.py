"""Commands of flywheel, as processes and, where that shows the same, in this process.

A process imports Prefect, torch and pandas anew, which takes longer than most commands do.
"""

import contextlib
import io
import os
import subprocess
import sys
from typing import NamedTuple

import pytest

from flywheel.cli import main


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def as_process(*arguments, **environment):
    """Run a command as users do."""
    done = subprocess.run(
        [sys.executable, "-m", "flywheel", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def here(*arguments):
    """Run a command in this process, which afterwards is as it was."""
    before, mask = dict(os.environ), os.umask(0o022)
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.argv", ["flywheel", *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as end:
                main()
        finally:
            os.umask(mask)
            os.environ.clear()
            os.environ.update(before)
    return Done(int(end.value.code or 0), out.getvalue(), err.getvalue())
