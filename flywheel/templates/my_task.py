"""The task of this project. It runs as it is, on scikit-learn's 8 x 8 pixel digits.

Replace one function after the other, and run `flywheel check` after each.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from flywheel import open_picture
from flywheel.errors import AnnotationError
from flywheel.recipes import VaryPictures
from flywheel.records import Answer, Json, Media, Sample, Split
from flywheel.task import Baseline, Example, Labeling, Predictor, Task

CLASSES = list("0123456789")  # your classes; add at the end only
CHOICES = [  # the first ten have the keys 0 to 9 in Label Studio
    f'<Choice value="{escape(name)}"' + (f' hotkey="{key}"/>' if key < 10 else "/>")
    for key, name in enumerate(CLASSES)
]

LABELING_CONFIG = f"""<View>
  <Image name="image" value="$image" maxWidth="320px"/>
  <Choices name="class" toName="image" choice="single" required="true">
    {"".join(CHOICES)}
  </Choices>
</View>"""


def task() -> Task:
    """All that flywheel knows about your problem; flywheel.toml names this function."""
    return Task(
        model=Model,  # any torch.nn.Module
        inputs=inputs,  # the bytes that production sends -> a batch
        targets=lambda labels: torch.tensor([CLASSES.index(label) for label in labels]),
        loss=lambda output, target: cross_entropy(output["logits"], target, reduction="none"),
        answers=answers,  # what the network says -> answer, confidence, embedding
        scores=lambda answer, label: {"correct": float(answer == label)},
        labeling=Labeling(
            config=LABELING_CONFIG,  # Label Studio's XML
            data=lambda sample: {"image": Media(sample.payload, "image/png")},  # its $image
            result=to_label_studio,  # an answer, drawn as the pre-annotation
            answer=from_label_studio,  # what an annotator drew, read back
        ),
        start_data=start_data,  # the labels that you begin with
        baselines={"majority class": Baseline(kind="scripted", fit=majority_class)},
        augment=VaryPictures(),  # how much pictures are turned, moved and relit in training
        slices={"little ink": lambda sample: bool(inputs([sample]).mean() < 0.25)},
    )


class Model(torch.nn.Module):
    """Your network. What it returns goes to the loss and to `answers`, as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64))
        self.last = torch.nn.Linear(64, len(CLASSES))

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 1, 8, 8) -> logits (B, 10) and embedding (B, 64)."""
        embedding = self.hidden(pixels).relu()
        return {"logits": self.last(embedding), "embedding": embedding}


def inputs(samples: Sequence[Sample]) -> torch.Tensor:
    """Your decoding: the bytes that production sends -> (B, ...) float32."""
    pixels = []
    for sample in samples:
        image = open_picture(sample)  # a PNG or JPEG, upright; its size is checked first
        image = image.convert("L").resize((8, 8))
        pixels.append(np.asarray(image, dtype=np.float32)[None] / 255)
    return torch.from_numpy(np.stack(pixels))


def answers(output: dict[str, torch.Tensor]) -> list[Answer]:
    """What the network says -> answer, confidence in 0..1, and where the sample lies."""
    confidences, indices = output["logits"].softmax(dim=1).max(dim=1)
    embeddings = output["embedding"].detach().cpu().numpy()
    found = zip(indices.tolist(), confidences.tolist(), embeddings, strict=True)
    return [Answer(value=CLASSES[i], confidence=c, embedding=e) for i, c, e in found]


def to_label_studio(answer: Json, _sample: Sample) -> list[dict[str, Json]]:
    """An answer as Label Studio draws it: annotators see it, and only correct it."""
    region = {"id": "r1", "type": "choices", "from_name": "class", "to_name": "image"}
    return [{**region, "value": {"choices": [answer]}}]


def from_label_studio(result: list[dict[str, Json]], _sample: Sample) -> Json:
    """What an annotator drew -> an answer, or an AnnotationError."""
    chosen = [name for region in result for name in region.get("value", {}).get("choices", [])]
    if len(chosen) != 1 or chosen[0] not in CLASSES:
        raise AnnotationError(f"{chosen} is not one of {CLASSES}; choose one")
    return chosen[0]


def start_data() -> Iterator[Example]:
    """The labeled data that you begin with; TEST is held out and never trained on."""
    digits = load_digits()
    for scan in range(400):
        buffer = io.BytesIO()
        Image.fromarray((digits.images[scan] * 15).astype(np.uint8)).save(buffer, "PNG")
        sample = Sample.of(buffer.getvalue(), "image/png", {"scan": scan})
        split = Split.TEST if scan % 4 == 0 else Split.TRAIN
        yield Example(sample=sample, answer=CLASSES[digits.target[scan]], split=split)


def majority_class(_samples: Sequence[Sample], labels: Sequence[Json]) -> Predictor:
    """The simplest thing that your model has to beat."""
    [(most, _count)] = Counter(labels).most_common(1)
    return lambda samples: [most for _ in samples]
