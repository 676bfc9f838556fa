"""A project whose training is a program of its own: train.py and predict.py, in any language."""

import csv
import sys
from pathlib import Path

from flywheel import Example, Task
from flywheel.labeling import choice, text
from flywheel.records import Sample, Split
from flywheel.scoring import classification
from flywheel.trainers import CommandTrainer

HERE = Path(__file__).parent
CLASSES = ["invoice", "login", "refund"]  # your classes


def task():
    return Task(
        model=CommandTrainer(
            command=f"'{sys.executable}' train.py --data {{data}} --out {{out}}",
            predict=f"'{sys.executable}' predict.py --model {{model}}",
            directory=HERE,
        ),
        labeling=choice(text(), CLASSES, question="What is it about?"),
        scores=classification(CLASSES),
        start_data=start_data,
    )


def start_data():
    with (HERE / "tickets.csv").open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file)):
            sample = Sample.of(row["text"].encode(), "text/plain")
            split = Split.TEST if number % 4 == 0 else Split.TRAIN  # every fourth is held out
            yield Example(sample=sample, answer=row["class"], split=split)
