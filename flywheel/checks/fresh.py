"""Asks a stored model in a process of its own: python -m flywheel.checks.fresh.

Sets and hashes have another order there, nothing that training left in memory is there, and the
other device answers too when there is one. Files in a folder go both ways; nothing is pickled.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch

from flywheel.checks.asking import Event, ask, batch_of, trace
from flywheel.ledger.codec import from_json, to_json
from flywheel.model import Model, load_weights
from flywheel.records import Answer, Json, Sample
from flywheel.sources import Code, load_then
from flywheel.task import Task, call_maker, load_task

_SECONDS = 300
_MOST_SEEDS = 20
_MOST_TEXTS, _LONGEST = 50, 200
_ORDER = "import json, sys; print(json.dumps(list({*json.loads(sys.argv[1])})))"
_MOST_TRACED = 50_000_000
"""numbers; the layers of a model with more are not compared"""


class Source(NamedTuple):
    """Where another process finds the task."""

    path: str
    """module:function"""
    directory: Path
    code: Code | None = None
    """with which the model was made and is loaded; None: as the files are"""


class Fresh(NamedTuple):
    """What the other process said."""

    answers: dict[str, list[Answer]]
    """device -> the answers, asked one by one"""
    events: list[Event]
    """trace of the first sample alone, on the CPU"""
    fault: str
    """its last line, when it failed"""


def ask_elsewhere(
    source: Source, weights: bytes, samples: Sequence[Sample], values: Sequence[Json] = ()
) -> Fresh:
    """The answers of stored weights to samples in a fresh process.

    A set of the texts in `values`, such as the class names, has another order there than here.
    """
    rows = [
        {
            "payload": base64.b64encode(sample.payload).decode(),
            "media_type": sample.media_type,
            "metadata": sample.metadata,
        }
        for sample in samples
    ]
    texts = sorted({text for text in _texts(list(values)) if len(text) <= _LONGEST})
    seed = _seed_of_another_order(texts[:_MOST_TEXTS])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "weights.safetensors").write_bytes(weights)
        (folder / "samples.json").write_text(json.dumps(rows), encoding="utf-8")
        if source.code is not None:
            code = json.dumps(to_json(source.code))
            (folder / "code.json").write_text(code, encoding="utf-8")
        given = (source.path, str(source.directory.absolute()), str(folder))
        try:
            done = subprocess.run(
                (sys.executable, "-P", "-m", "flywheel.checks.fresh", *given),
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return Fresh({}, [], f"it did not end within {_SECONDS} s")
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return Fresh({}, [], lines[-1] if lines else f"exit code {done.returncode}")
        return _read(folder)


def _seed_of_another_order(texts: Sequence[str]) -> str:
    """A hash seed under which a set of these texts has another order than in this process."""
    here = list({*texts})
    for seed in map(str, range(1, _MOST_SEEDS)):
        if seed == os.environ.get("PYTHONHASHSEED"):
            continue
        found = subprocess.run(
            (sys.executable, "-S", "-c", _ORDER, json.dumps(texts)),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=_SECONDS,
        )
        if len(here) < 2 or json.loads(found.stdout) != here:
            return seed
    return str(_MOST_SEEDS)  # of few texts the order may be the same under some seeds


def _texts(values: Json) -> Iterator[str]:
    """The texts in JSON, keys left out."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping | Sequence):
        inner = values.values() if isinstance(values, Mapping) else values
        for value in inner:
            yield from _texts(value)


def _read(folder: Path) -> Fresh:
    found = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    answers = {
        device: [
            Answer(value=value, confidence=confidence, embedding=np.array(embedding))
            for value, confidence, embedding in rows
        ]
        for device, rows in found["answers"].items()
    }
    tensors = safetensors.torch.load((folder / "trace.safetensors").read_bytes())
    events = [
        Event(
            layer=layer,
            is_input=is_input,
            rows=tuple(tensors[f"{place}/{number}"] for number in range(num_rows)),
        )
        for place, (layer, is_input, num_rows) in enumerate(found["events"])
    ]
    return Fresh(answers, events, "")


def _main(path: str, directory: str, name: str) -> None:
    folder = Path(name)
    torch.manual_seed(1)
    task = load_task(path, Path(directory))
    if (folder / "code.json").exists():
        code = from_json(Code, json.loads((folder / "code.json").read_text(encoding="utf-8")))
        task = call_maker(load_then(code, Path(directory)), Path(directory))
    weights = (folder / "weights.safetensors").read_bytes()
    samples = [
        Sample.of(base64.b64decode(row["payload"]), row["media_type"], row["metadata"])
        for row in json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    ]
    if task.trainer is None:
        answers, events = _ask_network(task, weights, samples)
    else:
        model, events = Model(task, weights, torch.device("cpu")), []
        answers = {"cpu": _rows([one for each in samples for one in model.answer_samples([each])])}
    tensors = {
        f"{place}/{number}": row.contiguous()
        for place, event in enumerate(events)
        for number, row in enumerate(event.rows)
    }
    (folder / "trace.safetensors").write_bytes(safetensors.torch.save(tensors))
    shapes = [[event.layer, event.is_input, len(event.rows)] for event in events]
    found = json.dumps({"answers": answers, "events": shapes})
    (folder / "answers.json").write_text(found, encoding="utf-8")


def _ask_network(
    task: Task, weights: bytes, samples: Sequence[Sample]
) -> tuple[dict[str, list[list[object]]], list[Event]]:
    module = task.network()
    load_weights(module, weights)
    answers = {"cpu": _rows(ask(task, module, samples, 1))}
    events, _ = trace(module, batch_of(task, samples[:1]), 0)
    if sum(row.numel() for event in events for row in event.rows) > _MOST_TRACED:
        events = []
    if torch.cuda.is_available():
        answers["cuda"] = _rows(ask(task, module, samples, 1, "cuda"))
    return answers, events


def _rows(answers: Sequence[Answer]) -> list[list[object]]:
    return [[one.value, float(one.confidence), one.embedding.tolist()] for one in answers]


if __name__ == "__main__":
    _main(*sys.argv[1:])
