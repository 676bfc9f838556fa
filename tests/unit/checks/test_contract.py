"""Every law of the contract fails on a task that breaks it, and only kept laws pass."""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from worlds.flat import Plain

from flywheel.checks import LAWS, check_task
from flywheel.checks.contract import NEEDS
from flywheel.labeling import row_of
from flywheel.records import Media, Sample, Split
from flywheel.task import Baseline, Example, Task

replace = dataclasses.replace


def _labeling(**changes) -> Callable[[Task], Task]:
    return lambda task: replace(task, labeling=replace(task.labeling, **changes))


def _answers(**changes) -> Callable[[Task], Task]:
    return lambda task: replace(
        task, answers=lambda output: [replace(a, **changes) for a in task.answers(output)]
    )


def _start(change: Callable[[list[Example]], list[Example]]) -> Callable[[Task], Task]:
    return lambda task: replace(task, start_data=lambda: change(list(task.start_data())))


def _swapped(task: Task) -> Task:
    """Sixes and nines change places on the way into training, and not on the way out."""
    swap = {"6": "9", "9": "6"}
    return replace(task, targets=lambda labels: task.targets([swap.get(x, x) for x in labels]))


def _same_in_both_splits(examples: list[Example]) -> list[Example]:
    return [*examples, replace(examples[0], split=Split.TRAIN)]


def _with_wrong_id(examples: list[Example]) -> list[Example]:
    return [replace(e, sample=replace(e.sample, id="0" * 64)) for e in examples]


def _reordered(task: Task, rng: np.random.Generator) -> Task:
    examples = list(task.start_data())
    order = np.arange(len(examples))
    return _start(lambda _: [examples[i] for i in rng.permutation(order)])(task)


def _careless(task: Task) -> Callable[[list[Sample]], torch.Tensor]:
    good = {example.sample.id for example in task.start_data()}
    return lambda samples: (
        task.inputs(samples) if samples[0].id in good else torch.zeros(len(samples), 8, 8)
    )


def _impure(task: Task) -> Callable[[list[Sample]], torch.Tensor]:
    return lambda samples: task.inputs(samples) / len(samples)


def _writing(task: Task) -> Callable[[list[Sample]], torch.Tensor]:
    def inputs(samples: list[Sample]) -> torch.Tensor:
        for sample in samples:
            sample.metadata["read"] = sample.metadata.get("read", 0) + 1
        return task.inputs(samples)

    return inputs


def _unseeded_model(task: Task) -> Callable[[], torch.nn.Module]:
    rng = np.random.default_rng(0)

    def model() -> torch.nn.Module:
        fresh = task.model()
        torch.nn.init.constant_(fresh.last.bias, rng.random())
        return fresh

    return model


def _scores_of(value: object) -> Callable[[Task], Task]:
    return lambda task: replace(task, scores=lambda answer, label: {"correct": value})


def _numpy_answers(_samples, _labels):
    return lambda samples: [np.int64(3) for _ in samples]


def _infinite_gradient(task: Task) -> Task:
    """The square root of an exact zero: a finite loss whose slope is not."""
    return replace(task, loss=lambda out, target: task.loss(out, target) + _root_of_zero(out))


def _root_of_zero(output: dict[str, torch.Tensor]) -> torch.Tensor:
    return (output["logits"] * 0).sum(dim=1).sqrt()


class _Rooting(Plain):
    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().forward(pixels.sqrt_())


class _Counting(Plain):
    """What training counts is in no parameter and no buffer."""

    steps = 0

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        self.steps += self.training
        return super().forward(pixels + 0.01 * self.steps)


def _noisy(output: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**output, "embedding": output["embedding"] + torch.rand(1)}


def _centred(output: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**output, "logits": output["logits"] - output["logits"].mean(dim=0)}


class _Silent(torch.nn.Linear):
    """A network whose forward() forgot its return."""

    def __init__(self) -> None:
        super().__init__(8, 8)

    def forward(self, pixels: torch.Tensor) -> None:
        super().forward(pixels)


def _drawn(sample: Sample, kind: str) -> bytes:
    data = io.BytesIO()
    Image.open(io.BytesIO(sample.payload)).save(data, "PNG" if kind != "GIF" else kind)
    return data.getvalue()


BREAKS: list[tuple[str, Callable[[Task], Task]]] = [
    ("start_data() has both splits and shares no sample", lambda t: replace(t, start_data=None)),
    ("start_data() has both splits and shares no sample", _start(lambda _: [])),
    (
        "start_data() has both splits and shares no sample",
        _start(lambda examples: [e for e in examples if e.split is Split.TRAIN]),
    ),
    ("start_data() has both splits and shares no sample", _start(_same_in_both_splits)),
    (
        "start_data() gives the same every time",
        lambda t: _reordered(t, np.random.default_rng(0)),
    ),
    ("start_data() gives the same every time", _start(_with_wrong_id)),
    (
        "model() draws its weights from torch's seeded generator",
        lambda t: replace(t, model=_unseeded_model(t)),
    ),
    (
        "model() draws its weights from torch's seeded generator",
        lambda t: replace(t, model=torch.nn.Identity),
    ),
    (
        "model() draws its weights from torch's seeded generator",
        lambda t: replace(t, model=lambda network=Plain(): network),  # noqa: B008  one for all
    ),
    (
        "inputs() are finite floats, batch first",
        lambda t: replace(t, inputs=lambda samples: t.inputs(samples).long()),
    ),
    (
        "inputs() are finite floats, batch first",
        lambda t: replace(t, inputs=lambda samples: t.inputs(samples).permute(1, 2, 0)),
    ),
    (
        "inputs() are finite floats, batch first",
        lambda t: replace(t, inputs=lambda samples: t.inputs(samples).log()),
    ),
    ("inputs() are pure", lambda t: replace(t, inputs=_impure(t))),
    ("inputs() are pure", lambda t: replace(t, inputs=_writing(t))),
    (
        "inputs() are pure",
        lambda t: replace(t, inputs=lambda s: t.inputs(s) + torch.rand(len(s), 1, 1)),
    ),
    ("inputs() refuse a corrupt payload", lambda t: replace(t, inputs=_careless(t))),
    (
        "the model takes what inputs() gives",
        lambda t: replace(t, model=lambda: torch.nn.Linear(60, 10)),
    ),
    (
        "the model takes what inputs() gives",
        lambda t: replace(t, model=_Silent),
    ),
    (
        "targets() are a tensor, one row a label",
        lambda t: replace(t, targets=lambda labels: t.targets(labels)[1:]),
    ),
    (
        "loss() is one finite number a sample",
        lambda t: replace(t, targets=lambda labels: [int(label) for label in labels]),
    ),
    (
        "loss() is one finite number a sample",
        lambda t: replace(t, loss=lambda output, target: t.loss(output, target).mean()),
    ),
    (
        "loss() is one finite number a sample",
        lambda t: replace(t, loss=lambda output, target: t.loss(output, target) / 0),
    ),
    ("the gradient is finite and reaches a weight", _infinite_gradient),
    (
        "the gradient is finite and reaches a weight",
        lambda t: replace(t, loss=lambda output, target: t.loss(output, target) * 0),
    ),
    (
        "the loss falls on one small batch",
        lambda t: replace(t, inputs=lambda samples: t.inputs(samples) * 0),
    ),
    (
        "answers() are JSON, one a sample",
        lambda t: replace(t, answers=lambda output: t.answers(output)[1:]),
    ),
    ("answers() are JSON, one a sample", _answers(value=(1, 2))),
    ("answers() are JSON, one a sample", _answers(value=np.int64(1))),
    ("confidences lie in 0..1", _answers(confidence=1.01)),
    ("confidences lie in 0..1", _answers(confidence=float("nan"))),
    ("confidences of a trained model differ by sample", _answers(confidence=0.8)),
    ("embeddings are finite vectors of one size", _answers(embedding=np.zeros((2, 2)))),
    ("embeddings are finite vectors of one size", _answers(embedding=np.full(4, np.nan))),
    ("embeddings are finite vectors of one size", _answers(embedding=[0.0])),
    ("the model leaves its inputs as they are", lambda t: replace(t, model=_Rooting)),
    (
        "the same sample gets the same answer twice",
        lambda t: replace(t, answers=lambda output: t.answers(_noisy(output))),
    ),
    (
        "an answer does not depend on the others in its batch",
        lambda t: replace(t, answers=lambda output: t.answers(_centred(output))),
    ),
    (
        "stored and loaded in a fresh process, the model answers the same",
        lambda t: replace(t, model=_Counting),
    ),
    (
        "loss_not() is one finite number a sample",
        lambda t: replace(t, loss_not=lambda output, targets: output.mean()),
    ),
    (
        "loss_not() is one finite number a sample",
        lambda t: replace(t, loss_not=lambda output, targets: output[:, 0] / 0),
    ),
    (
        "augment() keeps the shape and is seeded",
        lambda t: replace(t, augment=lambda inputs, generator: inputs[:, 1:]),
    ),
    (
        "augment() keeps the shape and is seeded",
        lambda t: replace(t, augment=lambda inputs, generator: inputs + torch.rand(1)),
    ),
    (
        "augment() keeps the shape and is seeded",
        lambda t: replace(t, augment=lambda inputs, generator: inputs.mul_(2)),
    ),
    ("scores() are finite, under the same names", _scores_of(float("nan"))),
    (
        "scores() are finite, under the same names",
        lambda t: replace(t, scores=lambda answer, label: {label: 1.0}),
    ),
    ("scores() are finite, under the same names", lambda t: replace(t, scores=lambda a, b: {})),
    ("no answer scores better than the right one", _scores_of(1.0)),
    (
        "no answer scores better than the right one",
        lambda t: replace(t, scores=lambda answer, label: {"correct": float(answer == "3")}),
    ),
    ("training on a few samples makes their answers right", _swapped),
    (
        "agree() says that an answer is itself, both ways round",
        lambda t: replace(t, agree=lambda one, other: one != other),
    ),
    (
        "agree() says that an answer is itself, both ways round",
        lambda t: replace(t, agree=lambda one, other: one <= other),
    ),
    (
        "agree() says that an answer is itself, both ways round",
        lambda t: replace(t, agree=lambda one, other: one.x == other.x),
    ),
    ("merge() of an answer with itself agrees with it", lambda t: replace(t, merge="".join)),
    (
        "merge() of an answer with itself agrees with it",
        lambda t: replace(t, merge=lambda group: np.float32(group[0]), agree=lambda *_: True),
    ),
    (
        "the labeling config is XML that shows data()",
        _labeling(config='<View><Image name="image" value="$picture"/></View>'),
    ),
    (
        "the labeling config is XML that shows data()",
        _labeling(config="<View><Image name='image' value='$image'/></View>"),
    ),
    ("the labeling config is XML that shows data()", _labeling(config="<View>$image")),
    (
        "browsers show what data() gives",
        _labeling(data=lambda _: {"image": Media(b"GIF89a", "image/png")}),
    ),
    (
        "drawing() is a PNG, with a label and without",
        lambda t: replace(
            t, drawing=lambda sample, answer, label: sample.payload[: 9 * bool(label)]
        ),
    ),
    (
        "drawing() is a PNG, with a label and without",
        lambda t: replace(t, drawing=lambda sample, answer, label: _drawn(sample, label.upper())),
    ),
    (
        "drawing() is a PNG, with a label and without",
        lambda t: replace(t, drawing=lambda sample, answer, label: _drawn(sample, "GIF")),
    ),
    ("accepts() takes the start data", lambda t: replace(t, accepts=row_of)),
    (
        "labeling answers come back as ones that agree",
        lambda t: _labeling(answer=lambda result, s: int(t.labeling.answer(result, s)))(t),
    ),
    (
        "labeling answers come back as ones that agree",
        lambda t: _labeling(result=lambda a, s: [{**t.labeling.result(a, s)[0], "id": 7}])(t),
    ),
    (
        "labeling answers come back as ones that agree",
        lambda t: _labeling(answer=lambda result, s: {t.labeling.answer(result, s)})(t),
    ),
    (
        "labeling answers come back as ones that agree",
        lambda t: _labeling(result=lambda answer, s: t.labeling.result(s.metadata["lens"], s))(t),
    ),
    (
        "labeling refuses an empty annotation, or states that it is an answer",
        _labeling(answer=lambda *_: "0"),
    ),
    (
        "labeling refuses an empty annotation, or states that it is an answer",
        _labeling(empty_is_answer=True),
    ),
    (
        "baselines answer every sample",
        lambda t: replace(t, baselines={"b": Baseline(kind="scripted", fit=_numpy_answers)}),
    ),
    (
        "baselines answer every sample",
        lambda t: replace(t, baselines={"b": replace(t.baselines["majority class"], kind="best")}),
    ),
    (
        "slices say true or false",
        lambda t: replace(t, slices={"odd": lambda sample: np.bool_(True)}),
    ),
]


@pytest.mark.parametrize(("law", "break_it"), BREAKS, ids=[f"{law}" for law, _ in BREAKS])
def test_a_task_that_breaks_a_law_is_reported_by_name(template_task, law, break_it):
    broken = check_task(break_it(template_task), np.random.default_rng(0))
    assert law in [one.law for one in broken]


def test_every_law_has_a_task_that_breaks_it():
    assert {law for law, _ in BREAKS} == set(LAWS)


@pytest.mark.parametrize("seed", range(3))
def test_the_task_of_a_new_project_keeps_every_law(new_task, seed):
    assert check_task(new_task, np.random.default_rng(seed)) == []


def test_a_task_that_draws_keeps_every_law(template_task):
    task = replace(template_task, drawing=lambda sample, answer, label: _drawn(sample, "PNG"))
    assert check_task(task, np.random.default_rng(0)) == []


def test_all_broken_laws_are_reported_at_once(template_task):
    task = _answers(confidence=2.0)(_labeling(config="<View>")(_swapped(template_task)))
    assert {one.law for one in check_task(task, np.random.default_rng(0))} == {
        "the labeling config is XML that shows data()",
        "confidences lie in 0..1",
        "training on a few samples makes their answers right",
    }


def test_one_exception_behind_many_laws_is_reported_once(template_task):
    def inputs(samples: list[Sample]) -> torch.Tensor:
        raise KeyError("lens")

    broken = check_task(replace(template_task, inputs=inputs), np.random.default_rng(0))
    blamed = [one.law for one in broken if one.why.endswith("KeyError: 'lens'")]
    assert blamed == ["inputs() are finite floats, batch first"]


def test_a_law_needs_only_laws_that_run_before_it():
    order = list(LAWS)
    assert all(order.index(need) < order.index(law) for law in NEEDS for need in NEEDS[law])


def test_a_score_may_be_better_when_it_is_lower_and_may_be_a_truth_value(template_task):
    def scores(answer: str, label: str) -> dict[str, float]:
        return {"error_digits": abs(int(answer) - int(label)), "exact": answer == label}

    assert check_task(replace(template_task, scores=scores), np.random.default_rng(0)) == []


def test_checking_leaves_the_global_generator_as_it_was(template_task):
    torch.manual_seed(5)
    expected = torch.random.get_rng_state()
    check_task(template_task, np.random.default_rng(0))
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_a_broken_law_says_what_was_found(template_task):
    task = _answers(confidence=7.5)(template_task)
    [broken] = check_task(task, np.random.default_rng(0))
    assert "7.5" in broken.why


def test_an_empty_annotation_may_be_an_answer_where_the_task_says_so(template_task):
    """A detector where no object is seen; the law named no way out."""
    read = template_task.labeling.answer
    task = _labeling(
        answer=lambda result, s: read(result, s) if result else "0", empty_is_answer=True
    )(template_task)
    law = "labeling refuses an empty annotation, or states that it is an answer"
    assert not [fault for fault in check_task(task, np.random.default_rng(0)) if fault.law == law]
    (fault,) = [
        fault
        for fault in check_task(
            _labeling(answer=lambda *_: "0")(template_task), np.random.default_rng(0)
        )
        if fault.law == law
    ]
    assert "empty_is_answer=True" in fault.why
