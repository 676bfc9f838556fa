"""The command that turns the loop many times in memory: what would it bring, and is it safe?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import Manager, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flywheel.cli.terminal import console

if TYPE_CHECKING:
    from flywheel.examples.arms import Arm, Turned
    from flywheel.examples.simulation import Job

simulating = typer.Typer()

_SHOWN = 12
"""rows of the table"""


@simulating.command(rich_help_panel="Project")
def simulate(
    name: Annotated[
        str, typer.Argument(help="digits, details, messages, pose, shapes or tumours")
    ] = "digits",
    nights: Annotated[int, typer.Option(min=1, help="of each arm")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="paired: all arms get the same")] = 3,
    world: Annotated[str, typer.Option(help="long-tail or everything-moved")] = "",
    labels: Annotated[int, typer.Option(min=4, help="samples a night")] = 60,
    picture: Annotated[Path, typer.Option(help="PNG that is written")] = Path("simulation.png"),
) -> None:
    """Turn the loop for many nights in memory, against labels drawn at random.

    On one core a night of one arm takes 6 seconds (details, messages, tumours), 20 (digits, shapes) or 3 minutes
    (pose). Arms and seeds run side by side, one on each core.
    """
    from flywheel.examples import arms, simulation
    from flywheel.examples.demos import find_demo

    demo = find_demo(name)
    demo.world(0, world)  # a wrong name ends here
    runs: dict[str, dict[int, list[Turned]]] = {arm: {} for arm in simulation.ARMS}
    jobs = [
        simulation.Job(
            demo=name, world=world, num_nights=nights, num_labels=labels, seed=seed, arm=arm
        )
        for seed in range(seeds)
        for arm in (*simulation.ARMS, simulation.ALL)
    ]
    for job, turned in _side_by_side(jobs):
        runs.setdefault(job.arm, {})[job.seed] = turned
        _print_end(job, turned[-1])
    metric = simulation.metric_of(demo)
    sign = 1 if metric.higher_is_better else -1
    paired = {arm: [runs[arm][seed] for seed in range(seeds)] for arm in simulation.ARMS}
    found = {arm: arms.Arm.of(turned) for arm, turned in paired.items()}
    _print_nights(f"{metric.optimize}, {seeds} seeds; nights after the first model", found)
    best = [turned[-1].trained for turned in runs[simulation.ALL].values()]
    console.print(f"{simulation.ALL}: {sum(best) / len(best):.3f}", highlight=False)
    ours, *others = simulation.ARMS
    for other in others:
        _print_gain(found[ours], found[other], other, sign)
    for arm in (simulation.OURS, simulation.RANDOM):
        _print_gate(arm, paired[arm])
    picture.write_bytes(arms.arms_picture(found, metric.optimize))
    console.print(f"wrote {picture}", highlight=False, markup=False)


def _side_by_side(jobs: Sequence[Job]) -> Iterator[tuple[Job, list[Turned]]]:
    """Each job with its nights, as it ends; as many processes as there are cores."""
    from flywheel.examples.simulation import run_job

    all_nights = sum(job.num_turned for job in jobs)
    with (
        Manager() as manager,
        ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool,
        console.status("") as status,
    ):
        nights = manager.Queue()
        open_jobs = {pool.submit(run_job, job, nights.put): job for job in jobs}
        try:
            while open_jobs:
                ended, _ = wait(open_jobs, timeout=0.5, return_when=FIRST_COMPLETED)
                status.update(f"{nights.qsize()} of {all_nights} nights")
                for future in ended:
                    yield open_jobs.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupted table begins no more


def _print_end(job: Job, last: Turned) -> None:
    serves = "" if last.metric == last.trained else f", {last.metric:.3f} serves"
    console.print(
        f"  seed {job.seed}, {job.arm}: {last.trained:.3f} after {last.num_labels} answers, "
        f"{last.worst:.3f} where it is worst{serves}",
        highlight=False,
    )


def _print_nights(title: str, arms: Mapping[str, Arm]) -> None:
    """The mean of the seeds, of what serves and of the newest model."""
    table = Table(title=title)
    for heading in ("night", "answers", *(f"{arm}: trained, serves" for arm in arms)):
        table.add_column(heading, justify="right")
    first = next(iter(arms.values()))
    number = first.trained.shape[1]
    for night in [*range(0, number - 1, max(number // _SHOWN, 1)), number - 1]:
        cells = [
            f"{arm.trained[:, night].mean():.3f}, {arm.serves[:, night].mean():.3f}"
            for arm in arms.values()
        ]
        table.add_row(str(night + 1), f"{first.labels[:, night].mean():.0f}", *cells)
    console.print(table)


def _print_gain(ours: Arm, other: Arm, name: str, sign: int) -> None:
    """What the labels of the last night brought over another arm, and how many ours took to its level."""
    from flywheel.examples.arms import paired_interval

    gains = [
        paired_interval(sign * (mine[:, -1] - theirs[:, -1]))
        for mine, theirs in ((ours.trained, other.trained), (ours.worst, other.worst))
    ]
    shares = sorted(ours.share_of_labels(other, sign))
    middle = shares[len(shares) // 2]
    said = f"{middle:.0%} of its answers" if middle < float("inf") else "no number of answers here"
    console.print(
        f"against {name}: trained {_interval(gains[0])}, where worst {_interval(gains[1])}; to where it "
        f"ends ours took {said} (median seed; {sum(share <= 0.5 for share in shares)} of "
        f"{len(shares)} took half or fewer)",
        highlight=False,
    )


def _print_gate(arm: str, runs: Sequence[Sequence[Turned]]) -> None:
    promoted = [[night.number for night in run if night.verdict == "PROMOTE"] for run in runs]
    worse = sum(night.is_worse for run in runs for night in run if night.verdict == "PROMOTE")
    first = sorted(numbers[0] if numbers else float("inf") for numbers in promoted)
    middle = first[len(first) // 2]
    when = (
        f"the first in night {middle:.0f} (median seed)" if middle < float("inf") else "mostly none"
    )
    waits = sorted(run[-1].nights_to_fix for run in runs if run[-1].nights_to_fix >= 0)
    fixed = f"; {waits[len(waits) // 2]:.0f} nights from a failure seen to its fix" if waits else ""
    console.print(
        f"{arm}: {sum(map(len, promoted))} promotions, {when}, {worse} of a model that is worse on "
        f"these arrivals{fixed}",
        highlight=False,
    )


def _interval(gain: tuple[float, float, float]) -> str:
    mean, low, high = gain
    return f"{mean:+.3f}" if low == float("-inf") else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
