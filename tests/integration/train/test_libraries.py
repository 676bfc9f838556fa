"""Trainers of Hugging Face and Lightning: the real libraries, tiny models, nothing fetched."""

import sys
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from flywheel.checks import check_task
from flywheel.errors import PayloadError, SettingsError
from flywheel.labeling import choice, text
from flywheel.model import Model
from flywheel.records import Answer, Sample, Split
from flywheel.scoring import classification
from flywheel.settings.learning import Train
from flywheel.task import Example, Task
from flywheel.train import TrainingData, train
from flywheel.trainers.huggingface import HuggingFaceTrainer
from flywheel.trainers.lightning import LightningTrainer

# Lightning 2.6 asks torch for what newer versions name otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

CLASSES = ["login", "refund"]
WORDS = {"login": ["password", "locked", "sign"], "refund": ["money", "back", "paid"]}
SHARED = ["hello", "please", "my", "I", "thanks", "today", "the"]


def messages(number, seed):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        answer = CLASSES[int(rng.integers(2))]
        words = [*rng.choice(SHARED, 4), *rng.choice(WORDS[answer], 2)]
        rng.shuffle(words)
        yield (
            Sample.of(" ".join(words).encode() + b" %d" % rng.integers(10**6), "text/plain"),
            answer,
        )


def start_data():
    for number, (sample, answer) in enumerate(messages(160, 0)):
        split = Split.TEST if number % 4 == 0 else Split.TRAIN
        yield Example(sample=sample, answer=answer, split=split)


def task_of(trainer):
    return Task(
        model=trainer,
        labeling=choice(text(), CLASSES),
        scores=classification(CLASSES),
        start_data=start_data,
    )


@pytest.fixture(scope="module")
def huggingface():
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - with transformers

    words = ["[PAD]", "[UNK]", *SHARED, *WORDS["login"], *WORDS["refund"]]

    def tokenizer():
        plain = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
        plain.pre_tokenizer = pre_tokenizers.Whitespace()
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]"
        )

    def model():
        config = transformers.BertConfig(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            num_labels=2,
        )
        return transformers.BertForSequenceClassification(config)

    return HuggingFaceTrainer(
        model=model,
        tokenizer=tokenizer,
        classes=CLASSES,
        arguments={"num_train_epochs": 8, "learning_rate": 5e-3, "logging_steps": 5},
    )


@pytest.fixture(scope="module")
def lightning():
    base = pytest.importorskip("lightning")
    words = [*SHARED, *WORDS["login"], *WORDS["refund"]]

    class Counts(base.LightningModule):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(len(words), 2)

        def forward(self, inputs):
            return self.last(inputs["counts"])

        def training_step(self, batch, _):
            inputs, targets, weights = batch
            losses = torch.nn.functional.cross_entropy(self(inputs), targets, reduction="none")
            loss = (losses * weights).mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.05)

    def inputs(samples):
        rows = []
        for sample in samples:
            try:
                found = sample.payload.decode().split()
            except UnicodeDecodeError as error:
                raise PayloadError("no text. Send UTF-8.") from error
            if not found or any("\0" in word for word in found):
                raise PayloadError("no text. Send UTF-8.")
            rows.append([float(found.count(word)) for word in words])
        return {"counts": torch.tensor(rows).reshape(-1, len(words))}

    def answers(output):
        confidences, places = output.softmax(dim=1).max(dim=1)
        return [
            Answer(value=CLASSES[place], confidence=min(confidence, 1.0), embedding=row.numpy())
            for place, confidence, row in zip(
                places.tolist(), confidences.tolist(), output, strict=True
            )
        ]

    return LightningTrainer(
        module=Counts,
        inputs=inputs,
        targets=lambda labels: torch.tensor([CLASSES.index(label) for label in labels]),
        answers=answers,
        arguments={"max_epochs": 10},
    )


def fitted(task, **changes):
    pairs = list(messages(120, 1))
    data = TrainingData(
        **(
            {
                "samples": [sample for sample, _ in pairs],
                "answers": [answer for _, answer in pairs],
                "origins": ["start"] * 120,
                "dataset_id": "d",
            }
            | changes
        )
    )
    return train(
        task,
        Train(device="cpu"),
        data,
        seed=3,
        now=datetime(2030, 1, 1, tzinfo=UTC),
        progress=lambda *_: None,
    )


@pytest.mark.parametrize("name", ["huggingface", "lightning"])
def test_it_learns_is_stored_without_pickle_and_answers_the_same(name, request):
    task = task_of(request.getfixturevalue(name))
    trained = fitted(task)
    assert trained.checkpoint.losses
    assert b".safetensors" in trained.weights
    samples, labels = zip(*messages(60, 2), strict=True)
    answers = Model(task, trained.weights, torch.device("cpu")).answer_samples(samples)
    right = [answer.value == label for answer, label in zip(answers, labels, strict=True)]
    assert np.mean(right) > 0.9
    assert len({answer.embedding.shape for answer in answers}) == 1
    again = fitted(task, champion=trained.weights)  # a warm start
    assert again.checkpoint.losses[0] < trained.checkpoint.losses[0]


@pytest.mark.parametrize("name", ["huggingface", "lightning"])
def test_the_task_keeps_every_law(name, request):
    assert check_task(task_of(request.getfixturevalue(name)), np.random.default_rng(0)) == []


@pytest.mark.parametrize("name", ["huggingface", "lightning"])
def test_without_the_library_the_extra_is_named(name, request, monkeypatch):
    task = task_of(request.getfixturevalue(name))
    library = {"huggingface": "transformers"}.get(name, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SettingsError, match=rf"flywheel\[{name}\]"):
        fitted(task)
