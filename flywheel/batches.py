"""Batches of model inputs: one tensor, a tree of tensors, or a list with an item for each sample.

A tree is a dict, list or tuple of trees; each tensor in it has a row for each sample. A task with a
`collate`, and one with a trainer of its own, has a list of items instead.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flywheel.records import Array


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor; torch is not imported for a look."""
    return hasattr(value, "requires_grad")


def tensors_of(tree: Any) -> Iterator[Any]:
    """The tensors of a tree, in its order."""
    if is_tensor(tree):
        yield tree
    elif isinstance(tree, (Mapping, list, tuple)):
        for branch in tree.values() if isinstance(tree, Mapping) else tree:
            yield from tensors_of(branch)


def map_tensors(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with each tensor replaced by what the function makes of it."""
    if is_tensor(tree):
        return function(tree)
    if isinstance(tree, Mapping):
        return {name: map_tensors(function, branch) for name, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        branches = [map_tensors(function, branch) for branch in tree]
        return branches if isinstance(tree, list) else tuple(branches)
    return tree


def is_list(inputs: Any) -> bool:
    """Whether inputs are a list with an item for each sample."""
    return isinstance(inputs, list)


def num_rows(inputs: Any) -> int:
    """How many samples inputs are of."""
    return len(inputs) if is_list(inputs) else len(next(tensors_of(inputs)))


def join(parts: Sequence[Any]) -> Any:
    """The inputs of several batches as one; all must be alike, see `shape_of`."""
    if is_list(parts[0]):
        return [item for part in parts for item in part]
    return _joined(parts)


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if is_tensor(first):
        import torch  # noqa: PLC0415 - a project without tensors needs none

        return torch.cat(list(parts))
    if isinstance(first, Mapping):
        return {name: _joined([part[name] for part in parts]) for name in first}
    branches = [_joined(same) for same in zip(*parts, strict=True)]
    return branches if isinstance(first, list) else tuple(branches)


def shape_of(inputs: Any) -> Hashable:
    """What must be equal for inputs to be joined; the items of lists go together in any shape."""
    if is_list(inputs):
        return "list"
    return tuple((tuple(one.shape[1:]), one.dtype) for one in tensors_of(inputs))


def flattened(inputs: Any) -> Array:
    """(N, D) rows of the tensors of a tree, side by side; one tensor keeps its type."""
    rows = [one.detach().reshape(len(one), -1).cpu().numpy() for one in tensors_of(inputs)]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)
