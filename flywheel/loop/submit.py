"""Takes in models that were trained elsewhere: a candidate, which the next night judges, or the champion."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from flywheel.artifact import make_card, steady_answers
from flywheel.errors import TaskError, UnknownIdError, UserError
from flywheel.ledger.datasets import add_trained, find_version, latest_version, read_manifest
from flywheel.ledger.releases import add_checkpoint, get_checkpoint
from flywheel.ledger.samples import groups_of
from flywheel.logged import answers_of
from flywheel.loop.context import Loop, between_nights
from flywheel.loop.gather import write_version
from flywheel.loop.release import hold_release, release_checked
from flywheel.loop.retrain import ask_elsewhere_once, conformance_samples
from flywheel.model import Model, isolated, pick_device
from flywheel.records import Checkpoint, DatasetVersion, Release, Split, content_id
from flywheel.task import Task
from flywheel.train import SUBMITTED, Trained
from flywheel.trainers.base import pack

REGISTERED = "registered as champion"
"""reason of the release, and beginning of the recipe, of a model that served before"""


def submit(loop: Loop, folder: Path, trained_on: str = "") -> Checkpoint:
    """Store a model as the candidate of the next night.

    No label that it was trained on may test it. So every training row of a dataset version counts as
    seen by it, and it must not have seen any other labeled sample of the project.

    Args:
        loop: of the project.
        folder: what the task's trainer loads; for a network, one .safetensors file.
        trained_on: the beginning of a version's id, as `flywheel dataset export` prints it; "" is
            the newest.

    Raises:
        UserError: there is no version yet, or the model is known already.
        TaskError: the folder holds no model of the task, or it does not answer.
        BusyError: a night runs.
    """
    artifact = _artifact(loop.task, folder)
    digest = content_id(artifact)
    with between_nights(loop) as night:
        with loop.ledger.read() as connection:
            known = _known(connection, digest)
            version = (
                find_version(connection, trained_on) if trained_on else latest_version(connection)
            )
        if known is not None:
            raise UserError(
                f"this model is known as {digest[:12]} since {known.created_at:%Y-%m-%d}. Submit one "
                "that was trained again"
            )
        if version is None:
            raise UserError(
                "there is no dataset version yet. Run the first night with flywheel night"
            )
        seen = f"on the {version.num_train} training rows of dataset {version.id[:12]}"
        trained = _described(loop, artifact, version, f"{SUBMITTED}, {seen}")
        manifest = read_manifest(loop.blobs, version.id)
        ids = [row.sample_id for row in manifest if row.split is Split.TRAIN]
        loop.blobs.put(trained.card)
        loop.blobs.put(trained.weights)
        with loop.ledger.begin() as connection:
            add_checkpoint(connection, trained.checkpoint)
            add_trained(connection, groups_of(connection, ids).values(), night.number)
    return trained.checkpoint


def register_champion(loop: Loop, model: Path | str) -> Release:
    """Release a model that serves already, trained by others: the first one to beat.

    Args:
        loop: of the project.
        model: what the task's trainer loads, as of `submit`; or, as a text, the name by which the log
            knows a model whose weights are not here, whose answers are the logged ones.

    Raises:
        UserError: the model is known already, or flywheel's own server would have to serve a name.
        TaskError: the folder holds no model of the task, or it does not answer.
        BusyError: a night runs.
        UnavailableError: flywheel's own server, which shall serve it, does not answer.
    """
    if isinstance(model, str) and not loop.project.is_external:
        raise UserError(
            f"flywheel's model server cannot serve {model!r}, of which there are only answers. Write "
            "[serve] mode = 'external', or name the folder of the model"
        )
    artifact = answers_of(model) if isinstance(model, str) else _artifact(loop.task, model)
    digest = content_id(artifact)
    with between_nights(loop) as night, hold_release(loop):
        with loop.ledger.read() as connection:
            known, version = _known(connection, digest), latest_version(connection)
        if known is not None:
            raise UserError(
                f"this model is known as {digest[:12]} since {known.created_at:%Y-%m-%d}. See flywheel "
                "status for what is released, and flywheel rollback for the one before"
            )
        version = version or write_version(loop, night.number).version
        if isinstance(model, str):
            recipe = f"{REGISTERED}, the answers of {model!r} in the log"
            checkpoint = _checkpoint(loop, artifact, version, recipe, None)
        else:
            trained = _described(loop, artifact, version, REGISTERED)
            loop.blobs.put(trained.card)
            checkpoint = trained.checkpoint
        loop.blobs.put(artifact)
        with loop.ledger.begin() as connection:
            add_checkpoint(connection, checkpoint)
        return release_checked(loop, digest, REGISTERED, None)


def _known(connection: Connection, digest: str) -> Checkpoint | None:
    try:
        return get_checkpoint(connection, digest)
    except UnknownIdError:
        return None


def _artifact(task: Task, folder: Path) -> bytes:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Name the one that training left")
    if task.trainer is not None:
        return pack(folder)
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise TaskError(
            f"{folder} holds {len(files)} .safetensors files and one is needed: the network's "
            "state_dict. Write it with safetensors.torch.save_file"
        )
    return files[0].read_bytes()


def _described(loop: Loop, artifact: bytes, version: DatasetVersion, recipe: str) -> Trained:
    """The model with its card; it has answered stored samples, here and in another process."""
    device = pick_device(loop.project.train.device)
    samples = conformance_samples(loop, read_manifest(loop.blobs, version.id))
    with isolated():
        card = make_card(loop.task, steady_answers(Model(loop.task, artifact, device), samples))
    checkpoint = _checkpoint(loop, artifact, version, recipe, card)
    trained = Trained(weights=artifact, card=card, checkpoint=checkpoint)
    ask_elsewhere_once(loop, trained, samples)
    return trained


def _checkpoint(
    loop: Loop, artifact: bytes, version: DatasetVersion, recipe: str, card: bytes | None
) -> Checkpoint:
    return Checkpoint(
        digest=content_id(artifact),
        parent_digest=None,
        dataset_id=version.id,
        seed=0,
        settings={},
        device=pick_device(loop.project.train.device).type,
        losses=(),
        recipe=recipe,
        train_seconds=0.0,
        card_digest=None if card is None else content_id(card),
        created_at=loop.now(),
    )
