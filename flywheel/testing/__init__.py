"""Doubles for tests of your own task: whole nights run in memory, without servers.

A warm night of the toy task takes about a second. The first one takes a few seconds more, for
torch's imports. `LedgerBuilder` makes any past of a project, without a model. Replace the toy task,
its points and `side_of` by your task, samples and truth:

```python
from pathlib import Path
from tempfile import TemporaryDirectory

from flywheel.testing import draw_points, open_memory, side_of, toy_task

train = {"device": "cpu", "learning_rate": 0.1, "batch_size": 8}
with TemporaryDirectory() as folder, open_memory(toy_task(), Path(folder), train=train) as toy:
    assert toy.night()["decide"].verdict == "PROMOTE"  # the first model, of the start data
    toy.serve(draw_points(40, seed=1)[0])
    routed = toy.night()["route"]
    num_new = routed.num_probability + routed.num_targeted
    assert toy.annotate(side_of) >= num_new > 0  # and the gold questions
    assert toy.night()["ingest"].num_labels == num_new
```
"""

from flywheel.testing.backend import MemoryBackend
from flywheel.testing.ledger import LedgerBuilder
from flywheel.testing.memory import MemoryProject, MemoryServer, open_memory
from flywheel.testing.records import (
    blank_challenge,
    blank_checkpoint,
    blank_decision,
    blank_report,
    choice_of,
    estimate,
    row_of,
)
from flywheel.testing.toy import SIDES, draw_points, side_of, toy_task

__all__ = [
    "SIDES",
    "LedgerBuilder",
    "MemoryBackend",
    "MemoryProject",
    "MemoryServer",
    "blank_challenge",
    "blank_checkpoint",
    "blank_decision",
    "blank_report",
    "choice_of",
    "draw_points",
    "estimate",
    "open_memory",
    "row_of",
    "side_of",
    "toy_task",
]
