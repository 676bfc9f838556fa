"""Any program as a trainer: data in a folder, a model in a folder, predictions over a pipe.

The training command gets the rows as files and leaves a model. The predicting command loads it and
stays alive: it reads one JSON line a sample and writes one JSON line an answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from flywheel.errors import PayloadError, SettingsError, TaskError
from flywheel.label_files import Layout, export_rows
from flywheel.records import Answer, DatasetRow, Sample, Split
from flywheel.shell import visible
from flywheel.trainers.base import Context, Predict, TrainingSet

_LAST_LINES = 8
_LONGEST_LINE = 200
_BATCH = 32
"""lines that are written before any is read"""
_PIPE_BYTES = 60_000
"""that a pipe holds: writing more waits for the program to read"""
_LOOK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandTrainer:
    """A trainer that runs two commands.

    `command` trains. In it {data} is a folder with the rows, {out} the empty folder for the model,
    {champion} that of the model that serves (empty without one), {seed} a number and {device} such
    as cuda:0. {data} holds rows.jsonl, a line a row with file, answer, weight, origin and group,
    and its files; or the layout that is asked for. A line {"epoch": 2, "epochs": 10, "loss": 0.31}
    on its output is progress; other lines are its log.

    `predict` answers, {model} being the folder that training left and {device} where it runs. It
    gets lines {"id", "file", "media_type", "metadata"} on its input and writes a line {"id",
    "answer", "confidence", "embedding"} for each, in any order; the embedding, a list of numbers,
    may be left out. An empty line ends a batch of at most 32. A line {"id", "error"} says that a
    sample cannot be read. What it writes to its error output is a log.

    >>> from flywheel.trainers import CommandTrainer
    >>> trainer = CommandTrainer(
    ...     command="python train.py --data {data} --out {out}",
    ...     predict="python predict.py --model {model}",
    ... )
    """

    command: str
    predict: str
    directory: Path = Path()
    """in which both run: write Path(__file__).parent in a task's file"""
    layout: Layout = "jsonl"
    """of {data}: jsonl, coco or yolo"""
    most_seconds: float = 12 * 3600
    """of a training; one that takes longer is ended"""
    most_answer_seconds: float = 60
    """until the first answer, which waits for the model to load, and for each one after it"""

    def train(self, rows: TrainingSet, context: Context) -> None:
        """Run the training command on exported rows; a failure ends in one sentence."""
        with tempfile.TemporaryDirectory(prefix="flywheel-data-") as name:
            _export(rows, Path(name, "data"), self.layout)
            words = _words(
                self.command,
                data=str(Path(name, "data")),
                out=str(context.folder),
                champion=str(context.champion or ""),
                seed=str(context.seed),
                device=context.device,
            )
            _run(words, self.directory, self.most_seconds, context)

    def load(self, folder: Path, device: str) -> Predict:
        """Start the predicting command at the first question; it ends with the model."""
        words = _words(self.predict, model=str(folder), device=device)
        return _Process(words, self.directory, self.most_answer_seconds).answers


def _export(rows: TrainingSet, folder: Path, layout: Layout) -> None:
    described = [
        DatasetRow(
            sample_id=row.sample.id,
            split=Split.TRAIN,
            origin=row.origin,
            answer=row.answer,
            weight=row.weight,
        )
        for row in rows
    ]
    groups = dict(zip((row.sample_id for row in described), rows.groups, strict=True))
    export_rows(iter(rows.samples), described, folder, layout=layout, groups=groups)


def _words(command: str, **values: str) -> list[str]:
    """The words of a command with its {names} filled in, without a shell.

    Raises:
        SettingsError: it is empty, a quote is open, or a name is not known.
    """
    try:
        words = [word.format_map(values) for word in shlex.split(command)]
    except (ValueError, KeyError, IndexError) as error:
        raise SettingsError(
            f"the command {command!r} cannot be read ({error!r}). Close its quotes, and use the "
            f"names {', '.join(f'{{{name}}}' for name in values)}"
        ) from error
    if not words:
        raise SettingsError("the command is empty. Write the program and its arguments")
    return words


def _start(words: Sequence[str], directory: Path, **pipes: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(words, cwd=directory, start_new_session=True, **pipes)
    except OSError as error:
        raise SettingsError(
            f"the command {words[0]!r} cannot be started in {directory.absolute()}: "
            f"{error.strerror}. Install it, or give the folder in which it is found"
        ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started, if it still runs: else its number may be another's."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):  # what was not written goes with it
            process.stdin.close()


def _run(words: Sequence[str], directory: Path, most_seconds: float, context: Context) -> None:
    """Run a training command; read its progress, and end it when it takes too long."""
    latest = time.monotonic() + most_seconds
    process = _start(
        words,
        directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_die_with_us,
    )
    last, out = deque[str](maxlen=_LAST_LINES), queue.Queue[str | None]()
    reader = threading.Thread(target=_forward, args=(process.stdout, out), daemon=True)
    reader.start()
    try:
        for line in _until(latest, process, out):
            progress = _progress(line)
            if progress is None:
                last.append(line)
            else:
                context.progress(*progress)
        is_late = process.poll() is None
    finally:
        if reader.is_alive() and process.poll() is not None:  # what it started holds its output
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        _end(process)
    if is_late:
        raise TaskError(
            f"the training command ran for more than {most_seconds:g} s and was ended. Let it "
            "train less, or raise most_seconds"
        )
    if process.returncode:
        code = _code(process.returncode)
        raise TaskError(f"the training command ended with {code}{_said(last)}. Fix it")


def _until(
    latest: float, process: subprocess.Popen[bytes], out: queue.Queue[str | None]
) -> Iterator[str]:
    """The lines of a command until it has ended, or its time is over; then it may run still."""
    while time.monotonic() < latest:
        try:
            line = out.get(timeout=min(_LOOK_SECONDS, max(latest - time.monotonic(), 0.01)))
        except queue.Empty:
            if process.poll() is not None:
                return
            continue
        if line is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(latest - time.monotonic(), 0.01))
            return
        yield line


def _forward(pipe: IO[bytes], out: queue.Queue[str | None]) -> None:
    with pipe:
        for line in _lines(pipe):
            out.put(line)
    out.put(None)


def _die_with_us() -> None:
    """Have the kernel end a training whose run was killed: it would hold a GPU for hours."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _lines(pipe: IO[bytes] | None) -> Iterator[str]:
    """The lines of an output as printable text, each cut to a length, whatever bytes come."""
    assert pipe is not None  # noqa: S101  it was asked for
    while line := pipe.readline(65_536):
        text = line.decode("utf-8", errors="replace").strip()
        if text:
            yield text


def _progress(line: str) -> tuple[int, int, float] | None:
    if not line.startswith("{"):
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
        row = json.loads(line)
        return int(row["epoch"]), int(row["epochs"]), float(row["loss"])
    return None


def _code(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _said(lines: Sequence[str]) -> str:
    """`: ` and the last line of a log; "" without one."""
    return f": {visible(lines[-1])[:_LONGEST_LINE]}" if lines else " and wrote nothing"


class _Process:
    """A predicting command, which is started when it is first asked and after it has ended."""

    def __init__(self, words: Sequence[str], directory: Path, most_seconds: float) -> None:
        self._words, self._directory, self._most_seconds = words, directory, most_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._out = queue.Queue[bytes | None]()
        self._log = deque[str](maxlen=_LAST_LINES)

    def answers(self, samples: Sequence[Sample]) -> list[Answer]:
        """One answer a sample, in their order.

        Raises:
            PayloadError: the command says that it cannot read a sample.
            TaskError: the command ended, was silent for too long, or wrote what is no answer.
        """
        found = list[Answer]()
        with self._lock, tempfile.TemporaryDirectory(prefix="flywheel-samples-") as name:
            for start in range(0, len(samples), _BATCH):
                found += self._ask(samples[start : start + _BATCH], Path(name))
        return found

    def _ask(self, samples: Sequence[Sample], folder: Path) -> list[Answer]:
        process = self._running()
        lines = []
        for number, sample in enumerate(samples):
            file = folder / f"{number}"
            file.write_bytes(sample.payload)
            asked = {"id": sample.id, "file": str(file), "media_type": sample.media_type}
            lines.append(json.dumps({**asked, "metadata": sample.metadata}) + "\n")
        text = "".join([*lines, "\n"]).encode()
        if len(text) > _PIPE_BYTES:  # a program that reads nothing is ended for its silence
            threading.Thread(target=_write, args=(process.stdin, text), daemon=True).start()
        elif not _write(process.stdin, text):
            raise self._ended()
        wanted = {sample.id for sample in samples}
        answers = dict[str, Answer]()
        while wanted - answers.keys():
            row = self._row(wanted)
            answers[row["id"]] = _answer(row)
        return [answers[sample.id] for sample in samples]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._out = queue.Queue()
        self._process = process = _start(
            self._words,
            self._directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        weakref.finalize(self, _end, process)
        for target, given in (
            (_read, (process.stdout, self._out)),
            (_keep, (process.stderr, self._log)),
        ):
            threading.Thread(target=target, args=given, daemon=True).start()
        return process

    def _row(self, wanted: set[str]) -> dict[str, Any]:
        """The next line, as JSON with the id of a sample that was asked about."""
        try:
            line = self._out.get(timeout=self._most_seconds)
        except queue.Empty:
            self._stop()
            raise TaskError(
                f"the predicting command wrote no answer for {self._most_seconds:g} s{_said(self._log)}. "
                "Let it flush each line, or raise most_answer_seconds"
            ) from None
        if line is None:
            raise self._ended()
        try:
            row = json.loads(line)
            if row["id"] not in wanted:  # one sentence for all that is no answer
                raise ValueError(  # noqa: TRY301  see above
                    f"id {row['id']!r} was not asked about"
                )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._stop()
            text = visible(line[:80].decode("utf-8", "replace").strip())
            raise TaskError(
                f"the predicting command wrote {text!r}, which is no answer ({error}). Write one JSON "
                'line {"id", "answer", "confidence"} a sample, and logs to its error output'
            ) from None
        return row  # type: ignore[no-any-return]  # a dict, as it has an id

    def _ended(self) -> TaskError:
        code = self._stop()
        time.sleep(0.05)  # its last words are on their way
        return TaskError(
            f"the predicting command ended with {_code(code)}{_said(self._log)}. Let it read lines "
            "until its input ends"
        )

    def _stop(self) -> int:
        """End the command; the next question starts it again."""
        process, self._process = self._process, None
        assert process is not None  # noqa: S101  it was asked
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        _end(process)
        return process.returncode


def _answer(row: dict[str, Any]) -> Answer:
    if "error" in row:
        raise PayloadError(
            f"sample {row['id'][:12]} cannot be read: {visible(str(row['error']))[:_LONGEST_LINE]}"
        )
    try:
        embedding = np.asarray(row.get("embedding", []), dtype=np.float32).reshape(-1)
        return Answer(value=row["answer"], confidence=float(row["confidence"]), embedding=embedding)
    except (KeyError, TypeError, ValueError) as error:
        raise TaskError(
            f"the predicting command's answer to sample {row['id'][:12]} is not complete ({error!r}). "
            'Write {"id", "answer", "confidence"}, and "embedding" as a list of numbers'
        ) from None


def _write(pipe: IO[bytes] | None, text: bytes) -> bool:
    """Whether a command took it."""
    assert pipe is not None  # noqa: S101  it was asked for
    try:
        pipe.write(text)
        pipe.flush()
    except (OSError, ValueError):  # the latter of a pipe that was closed meanwhile
        return False
    return True


def _read(pipe: IO[bytes], out: queue.Queue[bytes | None]) -> None:
    with pipe:
        for line in pipe:
            if line.strip():
                out.put(line)
    out.put(None)


def _keep(pipe: IO[bytes], log: deque[str]) -> None:
    with pipe:
        log.extend(_lines(pipe))
