"""Pictures of digits, with a module of Lightning; scikit-learn's scans stand in for yours."""

import io

import lightning
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from flywheel import Example, Task
from flywheel.labeling import choice, image
from flywheel.ready import pixels_of
from flywheel.records import Sample, Split
from flywheel.scoring import classification
from flywheel.trainers import class_answers
from flywheel.trainers.lightning import LightningTrainer

CLASSES = list("0123456789")  # your classes; add at the end only


def task():
    trainer = LightningTrainer(
        module=Module,
        inputs=lambda samples: torch.from_numpy(pixels_of(samples)),  # (B, 3072), or as you like
        targets=lambda labels: torch.tensor([CLASSES.index(label) for label in labels]),
        answers=lambda output: class_answers(CLASSES, *output),
    )
    labeling, scores = choice(image(), CLASSES), classification(CLASSES)
    return Task(model=trainer, labeling=labeling, scores=scores, start_data=start_data)


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.hidden = torch.nn.Sequential(torch.nn.Linear(3072, 64), torch.nn.ReLU())
        self.last = torch.nn.Linear(64, len(CLASSES))

    def forward(self, pixels):
        return self.last(self.hidden(pixels)), self.hidden(pixels)  # logits, embeddings

    def training_step(self, batch, _number):
        pixels, targets, weights = batch
        loss = (cross_entropy(self(pixels)[0], targets, reduction="none") * weights).mean()
        self.log("loss", loss)  # the night's page shows it
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def start_data():
    digits = load_digits()
    for number in range(400):
        picture = Image.fromarray((digits.images[number] * 15).astype("uint8"))
        picture.save(file := io.BytesIO(), "PNG")
        split = Split.TEST if number % 4 == 0 else Split.TRAIN  # every fourth is held out
        sample = Sample.of(file.getvalue(), "image/png")
        yield Example(sample=sample, answer=CLASSES[digits.target[number]], split=split)
