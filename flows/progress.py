"""Progress of long work, as a bar in Prefect's dashboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flywheel.loop import Loop


def training_progress(loop: Loop) -> Callable[[int, int, float], None]:
    """A callable for each epoch of training; it calls Prefect for every twentieth part only."""
    bar: Any = None  # Prefect types its sync calls as maybe coroutines

    def report(epoch: int, epochs: int, loss: float) -> None:
        nonlocal bar
        if bar is None:
            bar = create_progress_artifact(
                progress=0.0,
                key=f"{loop.project.name}-training",
                description=f"first loss {loss:.4f}",
            )
        elif epoch == epochs or epoch % max(1, epochs // 20) == 0:
            update_progress_artifact(bar, 100.0 * epoch / epochs, f"loss {loss:.4f}")

    return report
