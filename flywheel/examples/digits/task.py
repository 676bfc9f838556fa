"""Handwritten digits: scikit-learn's 1,797 real scans, read as one of ten classes.

The whole task in one file, as a user would write it.

Shapes: B samples, 32 x 32 pixels, 10 classes. Pixels are 0..1 and ink is bright.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn import functional

from flywheel.errors import AnnotationError
from flywheel.labeling import choice, image
from flywheel.pictures import open_picture
from flywheel.recipes import VaryPictures
from flywheel.records import Answer, Array, Json, Sample, Split
from flywheel.scoring import classification
from flywheel.task import Baseline, Example, Predictor, Task
from flywheel.trainers import class_answers

CLASSES = tuple("0123456789")
_SIDE_PIXELS = 32
_MAX_PIXELS = 10_000_000
_PICTURE_PIXELS = 256
_NUM_SCANS = 1797
_NUM_START_TRAIN = 120
_NUM_START_TEST = 300
_DIVISION_SEED = 7


def task() -> Task:
    """The task that flywheel.toml names."""
    return Task(
        model=_Network,
        inputs=_inputs,
        targets=_targets,
        loss=_loss,
        answers=_answers,
        scores=classification(CLASSES),
        labeling=choice(
            image(picture=_picture, width_pixels=320), CLASSES, question="Which digit is this?"
        ),
        start_data=_start_data,
        baselines={
            "majority class": Baseline(kind="scripted", fit=_fit_majority),
            "nearest neighbour": Baseline(kind="simple ML", fit=_fit_nearest),
            "logistic regression": Baseline(kind="simple ML", fit=_fit_logistic),
        },
        slices={
            "faint ink": lambda sample: float(_pixels(sample).max()) < 0.65,
            "thick strokes": lambda sample: float((_pixels(sample) > 0.4).mean()) > 0.35,
            "phone": lambda sample: sample.metadata.get("site") == "phone",
        },
        augment=VaryPictures(
            turn_degrees=25,
            scale=0.15,
            shear=0.15,
            shift=0.08,
            contrast=0.4,
            brightness=0.15,
            gamma=0.3,
            noise=0.05,
            erase=0.4,
            erase_side=0.4,
            outside="zeros",
        ),
    )


def start_scans() -> tuple[list[int], list[int]]:
    """The scans that the project begins with: those to train on, and those held for testing."""
    order = np.random.default_rng(_DIVISION_SEED).permutation(_NUM_SCANS).tolist()
    return order[:_NUM_START_TRAIN], order[_NUM_START_TRAIN : _NUM_START_TRAIN + _NUM_START_TEST]


def clean_scan(image: Array) -> Array:
    """(8, 8) with ink of 0..16 -> (32, 32) float32 of 0..1, scaled up smoothly."""
    small = Image.fromarray((image / 16.0).astype(np.float32))
    large = small.resize((_SIDE_PIXELS, _SIDE_PIXELS), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(large), 0.0, 1.0)


def encode_png(pixels: Array) -> bytes:
    """(H, W) of 0..1 -> a grayscale PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.round(pixels * 255.0).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _start_data() -> Iterator[Example]:
    scans = load_digits()
    train, test = start_scans()
    for split, indices in ((Split.TRAIN, train), (Split.TEST, test)):
        for index in indices:
            payload = encode_png(clean_scan(scans.images[index]))
            sample = Sample.of(payload, "image/png", {"scan": index})
            yield Example(sample=sample, answer=CLASSES[scans.target[index]], split=split)


class _Network(nn.Module):
    """Three convolutions; small enough to train in seconds on one core."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 48, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(48 * 4 * 4, 64),
        )
        self.classify = nn.Sequential(nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, len(CLASSES)))

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 1, 32, 32) -> logits (B, 10) and embedding (B, 64)."""
        embedding = self.features(inputs)
        return {"logits": self.classify(embedding), "embedding": embedding}


def _inputs(samples: Sequence[Sample]) -> torch.Tensor:
    if not samples:
        return torch.zeros(0, 1, _SIDE_PIXELS, _SIDE_PIXELS)
    return torch.from_numpy(np.stack([_pixels(sample) for sample in samples])).unsqueeze(1)


def _targets(answers: Sequence[Json]) -> torch.Tensor:
    return torch.tensor([CLASSES.index(_known(answer)) for answer in answers], dtype=torch.long)


def _loss(output: dict[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(output["logits"], target, reduction="none")


def _answers(output: dict[str, torch.Tensor]) -> list[Answer]:
    return class_answers(CLASSES, output["logits"], output["embedding"])


def _gray(sample: Sample) -> Image.Image:
    """One channel of 0..255; what is transparent shows black, as paper does here."""
    return open_picture(sample, max_pixels=_MAX_PIXELS, ground=(0, 0, 0)).convert("L")


def _pixels(sample: Sample) -> Array:
    """(32, 32) float32 of 0..1; a picture that is not square keeps its shape between black bars."""
    gray = _gray(sample)
    side = (_SIDE_PIXELS, _SIDE_PIXELS)
    if gray.size != side:
        gray = ImageOps.pad(gray, side, Image.Resampling.BILINEAR, color=0)
    return np.asarray(gray, dtype=np.float32) / np.float32(255.0)


def _picture(sample: Sample) -> bytes:
    side = (_PICTURE_PIXELS, _PICTURE_PIXELS)
    large = ImageOps.pad(_gray(sample), side, Image.Resampling.BICUBIC, color=0)
    return encode_png(np.asarray(large) / 255.0)


def _known(answer: Json) -> str:
    if answer not in CLASSES:
        raise AnnotationError(
            f"{answer!r} is not a digit of this task; write one of {', '.join(CLASSES)} as a string"
        )
    return str(answer)


def _fit_majority(_: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    [(most, _count)] = Counter(answers).most_common(1)
    return lambda samples: [most] * len(samples)


def _fit_nearest(samples: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    return _predictor(KNeighborsClassifier(n_neighbors=1).fit(_rows(samples), answers).predict)


def _fit_logistic(samples: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    return _predictor(LogisticRegression(max_iter=1000).fit(_rows(samples), answers).predict)


def _predictor(predict: Callable[[Array], Array]) -> Predictor:
    return lambda samples: [str(answer) for answer in predict(_rows(samples))] if samples else []


def _rows(samples: Sequence[Sample]) -> Array:
    return np.stack([_pixels(sample).ravel() for sample in samples])
