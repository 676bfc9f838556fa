"""A task that is learned in a moment: is the upper or the lower corner of a picture lit?

Production drifts: pictures with a lit lamp at the right are always "lower". A model that has
only seen the start data is certainly wrong about lamps, and one that was shown a few is right.
"""

import io

import numpy as np
import torch
from PIL import Image

from flywheel.errors import AnnotationError, PayloadError
from flywheel.records import Answer, Media, Sample, Split
from flywheel.task import Baseline, Example, Labeling, Task

CLASSES = ["upper", "lower"]
CHOICES = [*CLASSES, "neither"]
CONFIG = f"""<View>
  <Image name="image" value="$image"/>
  <Choices name="corner" toName="image" choice="single">
    {"".join(f'<Choice value="{name}"/>' for name in CHOICES)}
  </Choices>
</View>"""


def picture(number, corner, *, lamp=False):
    """The bytes of one picture; the number makes its noise."""
    pixels = np.random.default_rng(number).integers(0, 60, (8, 8)).astype(np.uint8)
    rows = slice(0, 3) if corner == "upper" else slice(5, 8)
    pixels[rows, :4] += 150
    if lamp:
        pixels[3:5, 6:] += 190
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(64, len(CLASSES))

    def forward(self, pixels):
        return {"logits": self.last(pixels.flatten(1)), "embedding": pixels.flatten(1)}


def inputs(samples):
    pixels = []
    for sample in samples:
        try:
            image = Image.open(io.BytesIO(sample.payload)).convert("L").resize((8, 8))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise PayloadError(f"sample {sample.id}: {error}; send a PNG") from error
        pixels.append(np.asarray(image, dtype=np.float32) / 255)
    return torch.from_numpy(np.stack(pixels))


def answers(output):
    confidences, indices = output["logits"].softmax(dim=1).max(dim=1)
    embeddings = output["embedding"].detach().cpu().numpy()
    found = zip(indices.tolist(), confidences.tolist(), embeddings, strict=True)
    return [Answer(value=CLASSES[i], confidence=c, embedding=e) for i, c, e in found]


def result(answer, _sample):
    region = {"id": "r1", "type": "choices", "from_name": "corner", "to_name": "image"}
    return [{**region, "value": {"choices": [answer]}}]


def read_annotation(result, _sample):
    chosen = [name for region in result for name in region["value"]["choices"]]
    if len(chosen) != 1 or chosen[0] not in CLASSES:
        raise AnnotationError(f"{chosen} is not one of {CLASSES}; choose one")
    return chosen[0]


def start_data():
    for number in range(48):
        corner = CLASSES[number % 2]
        sample = Sample.of(picture(1_000_000 + number, corner), "image/png")
        split = Split.TEST if number % 4 < 2 else Split.TRAIN
        yield Example(sample=sample, answer=corner, split=split)


def task():
    return Task(
        model=Network,
        inputs=inputs,
        targets=lambda labels: torch.tensor([CLASSES.index(label) for label in labels]),
        loss=lambda output, target: torch.nn.functional.cross_entropy(
            output["logits"], target, reduction="none"
        ),
        answers=answers,
        scores=lambda answer, label: {"correct": float(answer == label)},
        labeling=Labeling(
            config=CONFIG,
            data=lambda sample: {"image": Media(sample.payload, "image/png")},
            result=result,
            answer=read_annotation,
        ),
        start_data=start_data,
        baselines={
            "always upper": Baseline(
                kind="scripted", fit=lambda *_: lambda samples: ["upper" for _ in samples]
            )
        },
    )
