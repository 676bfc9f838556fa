"""Messages by what they are about; tickets.csv has those that the first model learns from."""

import csv
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from flywheel import Example, Task
from flywheel.labeling import choice, text
from flywheel.records import Sample, Split
from flywheel.scoring import classification
from flywheel.trainers import SklearnTrainer

CLASSES = ["invoice", "login", "refund"]  # your classes


def task():
    return Task(
        model=SklearnTrainer(estimator=estimator),
        labeling=choice(text(), CLASSES, question="What is it about?"),
        scores=classification(CLASSES),
        start_data=start_data,
    )


def estimator():
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    return make_pipeline(letters, LogisticRegression(C=10))


def start_data():
    with Path(__file__).with_name("tickets.csv").open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file)):
            sample = Sample.of(row["text"].encode(), "text/plain")
            split = Split.TEST if number % 4 == 0 else Split.TRAIN  # every fourth is held out
            yield Example(sample=sample, answer=row["class"], split=split)
