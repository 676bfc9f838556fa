"""The per-sample scores behind every number, as one file that anyone can open with NumPy.

Kept so that a report can be checked, and measured anew under another metric, without a model.
Refuses to know what the scores mean. No pickle: loading it runs no code.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from flywheel.evaluate.rows import Rows, ScoreTable
from flywheel.records import Array


def pack_scores(parts: Mapping[str, tuple[Rows, Mapping[str, ScoreTable]]]) -> bytes:
    """A compressed npz; the same scores give the same bytes.

    Arrays: PART/ids, PART/weights and PART/ENTRANT/SCORE, all (N,).
    """
    arrays: dict[str, Array] = {}
    for part, (rows, entrants) in parts.items():
        arrays[f"{part}/ids"] = np.array(rows.ids, dtype=np.str_)
        arrays[f"{part}/weights"] = rows.weight_array()
        for entrant, table in entrants.items():
            for score, values in table.items():
                arrays[f"{part}/{entrant}/{score}"] = values
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_scores(packed: bytes) -> dict[str, Array]:
    """The arrays of a file that `pack_scores` wrote."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
