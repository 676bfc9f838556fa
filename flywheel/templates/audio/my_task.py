"""Recordings of a motor, by how it sounds; they are made here, and your WAV files come in their place."""

import io
import wave

import numpy as np
from sklearn.linear_model import LogisticRegression

from flywheel import Example, Task
from flywheel.errors import PayloadError
from flywheel.labeling import audio, choice
from flywheel.records import Sample, Split
from flywheel.scoring import classification
from flywheel.trainers import SklearnTrainer

CLASSES = ["healthy", "whines"]  # your classes


def task():
    return Task(
        model=SklearnTrainer(
            estimator=lambda: LogisticRegression(max_iter=1000), features=features
        ),
        labeling=choice(audio(), CLASSES, question="How does it sound?"),
        scores=classification(CLASSES),
        start_data=start_data,
    )


def features(samples):  # (B, 24): the loudness in 24 bands of frequency, of the first 8000 points
    try:
        spectra = [np.abs(np.fft.rfft(read_wave(sample.payload), 8000)) for sample in samples]
    except (wave.Error, EOFError, ValueError) as error:
        raise PayloadError("this is no WAV file of 16 bits, or it is empty. Send one") from error
    return np.log([[band.mean() + 1 for band in np.array_split(one, 24)] for one in spectra])


def read_wave(payload):
    with wave.open(io.BytesIO(payload)) as file:
        heard = np.frombuffer(file.readframes(8000), "<i2").astype(float)
        return heard / (np.abs(heard).max() + 1.0)


def start_data():
    rng = np.random.default_rng(0)
    for number in range(200):
        answer, split = CLASSES[number % 2], Split.TEST if number % 5 == 0 else Split.TRAIN
        yield Example(
            sample=Sample.of(record(answer, rng), "audio/wav"), answer=answer, split=split
        )


def record(answer, rng):  # a second of hum and noise, and more or less of a whine
    turns = 2 * np.pi * np.arange(8000) / 8000
    loud = rng.uniform(0.02, 0.3) if answer == "whines" else rng.uniform(0, 0.05)
    tones = np.sin(rng.uniform(80, 160) * turns) + loud * np.sin(rng.uniform(1000, 3000) * turns)
    with wave.open(file := io.BytesIO(), "wb") as recording:
        recording.setparams((1, 2, 8000, 0, "NONE", ""))  # one channel of 16 bits
        recording.writeframes(((tones + rng.normal(0, 0.5, 8000)) * 4000).astype("<i2").tobytes())
    return file.getvalue()
