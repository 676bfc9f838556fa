"""One law for models: the part that answers otherwise is named, and rounding is none."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from flywheel.checks import answer_laws, check_task
from flywheel.checks.answer_laws import ANSWER_LAWS
from flywheel.checks.asking import first_difference
from flywheel.checks.fresh import Fresh, Source, _seed_of_another_order
from flywheel.checks.model_laws import MODEL_LAWS
from flywheel.checks.subject import Subject
from flywheel.records import Answer

WRITES, REPEATS, ALONE, STORED = ANSWER_LAWS


class Network(torch.nn.Module):
    """The network of the template; a subclass changes one thing."""

    def __init__(self, *more: torch.nn.Module) -> None:
        super().__init__()
        self.hidden = torch.nn.Sequential(*more, torch.nn.Flatten(), torch.nn.Linear(64, 64))
        self.last = torch.nn.Linear(64, 10)

    def change(self, hidden):
        return hidden

    def forward(self, pixels):
        embedding = self.change(self.hidden(pixels)).relu()
        return {"logits": self.last(embedding), "embedding": embedding}


class Writing(Network):
    def forward(self, pixels):
        return super().forward(pixels.sqrt_())


class Clipping(Network):
    def __init__(self):
        super().__init__(torch.nn.Hardtanh(0, 0.5, inplace=True))


class Dropping(Network):
    def change(self, hidden):
        return functional.dropout(hidden, 0.5)


class Centring(Network):
    def change(self, hidden):
        return hidden - hidden.mean(dim=0)


class Norming(Network):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(64, track_running_stats=False)

    def change(self, hidden):
        return self.norm(hidden)


class Attending(Network):
    """Attention over the batch, which a transformer that forgot batch_first has."""

    def __init__(self):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(64, 2)

    def change(self, hidden):
        return self.attention(hidden, hidden, hidden)[0]


class Counting(Network):
    calls = 0

    def change(self, hidden):
        self.calls += 1
        return hidden + self.calls


class Remembering(Network):
    """What training changes is in no parameter and no buffer."""

    shift = 0.0

    def change(self, hidden):
        self.shift += 0.01 * self.training
        return hidden + self.shift


class Drifting(Network):
    """A running mean that goes on while it answers, too slowly for two answers to differ."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(64))

    def change(self, hidden):
        self.mean.mul_(0.99999).add_(1e-5 * hidden.detach().mean(dim=0))
        return hidden - self.mean


class InParts(Network):
    """It works in parts of 32 rows, of which the second is not like the first."""

    def change(self, hidden):
        return torch.cat([part * (1 + number) for number, part in enumerate(hidden.split(32))])


@pytest.mark.parametrize(
    ("network", "law", "where"),
    [
        (Writing, WRITES, "forward() of Writing, before it calls 'hidden'"),
        (Clipping, WRITES, "the layer 'hidden.0' (Hardtanh)"),
        (Dropping, REPEATS, "forward() of Dropping, before it calls 'last'"),
        (Counting, REPEATS, "forward() of Counting, before it calls 'last'"),
        (Drifting, REPEATS, "answering changes 'mean' of the model"),
        (InParts, ALONE, "in a large batch; forward() of InParts, before it calls 'last'"),
        (Centring, ALONE, "forward() of Centring, before it calls 'last'"),
        (Norming, ALONE, "alone, the layer 'norm' (BatchNorm1d) fails"),
        (Attending, ALONE, "forward() of MultiheadAttention"),
        (Remembering, STORED, "forward() of Remembering, before it calls 'last'"),
    ],
)
def test_the_part_of_the_model_that_breaks_the_law_is_named(template_task, network, law, where):
    task = replace(template_task, model=network)
    [broken] = [one for one in check_task(task, np.random.default_rng(0)) if one.law == law]
    assert where in broken.why


def test_answers_that_look_at_the_batch_are_named(template_task):
    def answers(output):
        output = {**output, "logits": output["logits"].softmax(dim=0).log()}
        return template_task.answers(output)

    subject = Subject(replace(template_task, answers=answers), seed=0)
    assert "answers() makes the difference" in ANSWER_LAWS[ALONE](subject)


def test_inputs_that_two_callers_would_share_are_named(template_task):
    """Both would be answered for the picture of the second."""
    buffer = torch.zeros(64, 1, 8, 8)

    def inputs(samples):
        return buffer[: len(samples)].copy_(template_task.inputs(samples))

    subject = Subject(replace(template_task, inputs=inputs), seed=0)
    assert "wrote into what it had returned" in MODEL_LAWS["inputs() are pure"](subject)


def test_inputs_that_seed_what_training_draws_from_are_named(template_task):
    """Every step of training would draw the same numbers."""

    def inputs(samples):
        torch.manual_seed(0)
        return template_task.inputs(samples)

    subject = Subject(replace(template_task, inputs=inputs), seed=0)
    assert "inputs() seeds torch's random numbers" in MODEL_LAWS["inputs() are pure"](subject)


def test_a_mask_of_infinities_keeps_every_law(template_task):
    class Masked(Network):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((8, 8), float("-inf")).triu(1))

        def forward(self, pixels):
            return super().forward((pixels + self.mask).softmax(dim=2))

    subject = Subject(replace(template_task, model=Masked), seed=0)
    assert [law(subject) for law in ANSWER_LAWS.values()] == [None] * 4


def _answer(value, confidence=0.5, embedding=1.0):
    return Answer(value=value, confidence=confidence, embedding=np.full(2, embedding))


@pytest.mark.parametrize(
    ("other", "place"),
    [
        ([_answer("a"), _answer("b")], None),
        ([_answer("a", 0.5001), _answer("b", 0.5, 1.0001)], None),
        ([_answer("b"), _answer("b")], None),  # it lies between the two
        ([_answer("b"), _answer("a")], 0),
        ([_answer("a"), _answer("b", 0.51)], 1),
        ([_answer("a"), _answer("b", 0.5, 1.01)], 1),
    ],
)
def test_only_more_than_rounding_is_a_difference(template_task, other, place):
    assert first_difference(template_task, [_answer("a"), _answer("b")], other) == place


@pytest.mark.parametrize("names", [["a", "b"], ["no", "yes"], ["east", "north", "west"]])
def test_the_other_process_has_another_order_of_even_two_classes(names):
    """With a seed that is fixed beforehand, the order of two was the same in every second check."""
    seed = _seed_of_another_order(names)
    code = f"print(*{{*{names!r}}})"
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
    )
    assert sorted(ran.stdout.decode().split()) == names
    assert ran.stdout.decode().split() != list({*names})


def test_classes_in_another_order_elsewhere_are_named(template_task, monkeypatch):
    subject = Subject(template_task, 0, Source("template:task", Path()))
    reversed_ = [
        replace(one, value=str(9 - int(one.value))) for one in subject.ask(subject.trained)
    ]
    monkeypatch.setattr(answer_laws, "ask_elsewhere", lambda *_: Fresh({"cpu": reversed_}, [], ""))
    assert "the classes have another order there" in ANSWER_LAWS[STORED](subject)


@pytest.mark.parametrize(("shift", "names_it"), [(0.5, True), (0.001, False)])
def test_another_device_that_answers_otherwise_is_named(
    template_task, monkeypatch, shift, names_it
):
    """A GPU may round otherwise; it may not know less than the CPU does."""
    subject = Subject(template_task, 0, Source("template:task", Path()))
    here = subject.ask(subject.trained)
    there = [replace(one, confidence=abs(one.confidence - shift)) for one in here]
    found = Fresh({"cpu": here, "cuda": there}, [], "")
    monkeypatch.setattr(answer_laws, "ask_elsewhere", lambda *_: found)
    assert (
        "on cuda the model answers otherwise" in (ANSWER_LAWS[STORED](subject) or "")
    ) is names_it
