"""Networks are drawn at random: whole ones keep every law, and one part that breaks a law is named."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from flywheel.checks.answer_laws import ANSWER_LAWS
from flywheel.checks.subject import Subject

WRITES, REPEATS, ALONE, STORED = ANSWER_LAWS
_WIDTH = 64
SLOPE = torch.linspace(-1, 1, _WIDTH)
"""added, for a norm that follows would undo a factor or a constant"""


class Part(nn.Module):
    """Calls a function of itself and of what is hidden, (N, 64)."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.calls = 0
        self.register_buffer("kept", torch.zeros(_WIDTH))
        self.register_buffer("lost", torch.zeros(_WIDTH), persistent=False)

    def forward(self, hidden):
        self.calls += 1
        return self.function(self, hidden)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, hidden):
        return hidden + self.inner(hidden).tanh()


class Recurrent(nn.Module):
    """Reads the 64 numbers of a row as eight steps."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(8, 32, batch_first=True, bidirectional=True)

    def forward(self, hidden):
        return self.cell(hidden.unflatten(1, (8, 8)))[0][:, -1]


class Attending(nn.Module):
    """Attention within a row, of eight steps."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, hidden):
        return self.layer(hidden.unflatten(1, (8, 8))).flatten(1)


def _linear():
    return nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.GELU())


def _norm():
    return nn.BatchNorm1d(_WIDTH)


WHOLE = (
    _linear,
    Residual,
    Recurrent,
    Attending,
    _norm,
    lambda: nn.LayerNorm(_WIDTH),
    lambda: nn.GroupNorm(8, _WIDTH),
    lambda: nn.Dropout(0.2),
    nn.PReLU,
)


def _trained_shift(part, hidden):
    part.lost += 0.02 * SLOPE * part.training
    return hidden + part.lost


def _trained_count(part, hidden):
    part.shift = getattr(part, "shift", 0.0) + 0.02 * part.training
    return hidden + SLOPE * part.shift


def _drift(part, hidden):
    part.kept.mul_(0.999).add_(1e-3 * hidden.detach().mean(dim=0))
    return hidden - part.kept


BROKEN = {
    ALONE: (
        lambda _, hidden: hidden - hidden.mean(dim=0),
        lambda _, hidden: hidden * (1 + hidden.softmax(dim=0)),
        lambda _, hidden: hidden + 0.3 * hidden.roll(1, dims=0),
        lambda _, hidden: hidden + 0.1 * hidden.cumsum(dim=0),
        lambda _, hidden: hidden + 0.2 * SLOPE * hidden.amax(),
        lambda _, hidden: hidden + SLOPE / len(hidden),
        lambda _, hidden: hidden + 0.2 * hidden.argsort(dim=0).float() / len(hidden),
        lambda _, hidden: hidden + 0.5 * (hidden @ hidden.T / _WIDTH).softmax(dim=1) @ hidden,
        lambda _, hidden: torch.cat([hidden[:1] + SLOPE, hidden[1:]]),
        lambda _, hidden: functional.layer_norm(hidden.T, (len(hidden),)).T,
    ),
    REPEATS: (
        lambda _, hidden: functional.dropout(hidden, 0.3),
        lambda _, hidden: hidden + 0.1 * torch.randn_like(hidden),
        lambda _, hidden: hidden + SLOPE * float(np.random.default_rng().uniform(-1, 1)),
        lambda part, hidden: hidden + 0.1 * SLOPE * part.calls,
        lambda part, hidden: hidden + SLOPE * (part.calls % 2),
        _drift,
    ),
    STORED: (_trained_shift, _trained_count),
}
WRITING = (
    lambda pixels: pixels.sqrt_(),
    lambda pixels: pixels.mul_(0.9),
    lambda pixels: pixels.sub_(pixels.mean(dim=(1, 2, 3), keepdim=True)),
    lambda pixels: pixels.clamp_(max=0.5),
    lambda pixels: functional.dropout(pixels.squeeze_(1).unsqueeze_(1), training=False).neg_(),
    lambda pixels: pixels.index_fill_(2, torch.tensor([3]), 0.25),
)


class Network(nn.Module):
    """Parts one after the other, between a first and a last layer."""

    def __init__(self, parts, first=lambda pixels: pixels):
        super().__init__()
        self.first = first
        self.enter = nn.Sequential(nn.Flatten(), nn.Linear(64, _WIDTH))
        self.parts = nn.Sequential(*(make() for make in parts))
        self.last = nn.Linear(_WIDTH, 10)

    def forward(self, pixels):
        embedding = self.parts(self.enter(self.first(pixels)))
        return {"logits": self.last(embedding), "embedding": embedding}


def _subject(task, parts, first=lambda pixels: pixels):
    return Subject(replace(task, model=lambda: Network(parts, first)), seed=0)


WHOLE_PARTS = st.lists(st.sampled_from(WHOLE), min_size=0, max_size=4)


@settings(max_examples=5)
@given(parts=WHOLE_PARTS)
def test_whole_networks_keep_every_law(template_task, parts):
    subject = _subject(template_task, parts)
    assert {law: check(subject) for law, check in ANSWER_LAWS.items()} == dict.fromkeys(ANSWER_LAWS)


@settings(max_examples=12)
@given(
    before=WHOLE_PARTS,
    after=WHOLE_PARTS,
    case=st.sampled_from([(law, one) for law, parts in BROKEN.items() for one in parts]),
)
def test_the_part_that_breaks_a_law_is_named_wherever_it_stands(template_task, before, after, case):
    law, function = case
    parts = [*before, lambda: Part(function), *after]
    said = ANSWER_LAWS[law](_subject(template_task, parts))
    assert f"'parts.{len(before)}" in (said or "")


@settings(max_examples=4)
@given(parts=WHOLE_PARTS, first=st.sampled_from(WRITING))
def test_a_network_that_writes_into_its_inputs_is_named(template_task, parts, first):
    said = ANSWER_LAWS[WRITES](_subject(template_task, parts, first))
    assert "forward() of Network" in (said or "")
