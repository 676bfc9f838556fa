"""Which group a sample belongs to, and on which side of the split that group lies.

Both follow from the sample alone, so that they are fixed before its label is known, and stay fixed
in whatever order samples come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from flywheel.records import Json, Split, canonical

_MAX_GROUP_CHARACTERS = 200  # width of the ledger's column
_HASH_BYTES = 8


def group_of(metadata: Mapping[str, Json], sample_id: str, key: str | None) -> str:
    """The group of a sample: its metadata under `key` as text, else the sample's own id.

    A null counts as absent. A text longer than the ledger's column is replaced by its SHA-256.
    """
    value = None if key is None else metadata.get(key)
    if value is None:
        return sample_id
    text = value if isinstance(value, str) else canonical(value)
    if len(text) <= _MAX_GROUP_CHARACTERS:
        return text
    return hashlib.sha256(text.encode()).hexdigest()


def split_of(project_name: str, group: str, test_groups: float) -> Split:
    """TEST for a share `test_groups` of all groups, by a hash that is uniform in [0, 1)."""
    digest = hashlib.sha256(f"{project_name}/{group}".encode()).digest()
    # 53 bits are what a float holds exactly: all 64 could round up to 1.0.
    fraction = (int.from_bytes(digest[:_HASH_BYTES], "big") >> 11) / 2**53
    return Split.TEST if fraction < test_groups else Split.TRAIN
