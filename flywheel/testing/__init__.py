"""Doubles for tests of your own task: whole nights run in memory, without servers.

A warm night of the toy task takes about a second. The first one takes a few seconds more, for
torch's imports. Replace the toy task, its points and `side_of` by your task, samples and truth:

    from pathlib import Path
    from tempfile import TemporaryDirectory

    from flywheel.testing import draw_points, open_memory, side_of, toy_task

    train = {"device": "cpu", "learning_rate": 0.1, "batch_size": 8}
    with TemporaryDirectory() as folder, open_memory(toy_task(), Path(folder), train=train) as toy:
        assert toy.night()["decide"].verdict == "PROMOTE"  # the first model, of the start data
        toy.serve(draw_points(40, seed=1)[0])
        num_sent = toy.night()["route"].num_sent
        assert toy.annotate(side_of) == num_sent > 0
        assert toy.night()["ingest"].num_labels == num_sent
"""

from flywheel.testing.backend import MemoryBackend
from flywheel.testing.ledger import Annotators, Production
from flywheel.testing.memory import MemoryProject, MemoryServer, open_memory
from flywheel.testing.toy import SIDES, draw_points, side_of, toy_task

__all__ = [
    "SIDES",
    "Annotators",
    "MemoryBackend",
    "MemoryProject",
    "MemoryServer",
    "Production",
    "draw_points",
    "open_memory",
    "side_of",
    "toy_task",
]
