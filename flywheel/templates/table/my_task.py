"""Rows of a table: is a tumour benign? scikit-learn's data stand in for yours."""

import json

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import make_pipeline

from flywheel import Example, Task
from flywheel.labeling import choice, table
from flywheel.ready import fields_of
from flywheel.records import Sample, Split
from flywheel.scoring import classification
from flywheel.trainers import SklearnTrainer

FIELDS = load_breast_cancer().feature_names.tolist()  # your fields
CLASSES = ["benign", "malignant"]  # your classes; the second is the one that must be found


def task():
    return Task(
        model=SklearnTrainer(estimator=estimator, features=fields_of),
        labeling=choice(table(FIELDS, numbers=FIELDS), CLASSES),  # a request must have them
        scores=classification(CLASSES),
        start_data=start_data,
    )


def estimator():
    return make_pipeline(DictVectorizer(sparse=False), RandomForestClassifier(min_samples_leaf=2))


def start_data():
    data = load_breast_cancer()
    for number, (row, target) in enumerate(zip(data.data[:300], data.target, strict=False)):
        fields = dict(zip(FIELDS, row.tolist(), strict=True))
        sample = Sample.of(json.dumps(fields).encode(), "application/json")
        split = Split.TEST if number % 3 == 0 else Split.TRAIN  # every third is held out
        yield Example(sample=sample, answer=CLASSES[int(target == 0)], split=split)
