"""A night whose ledger is a real PostgreSQL and whose blobs are on S3, by two URLs alone."""

from __future__ import annotations

import subprocess
import sys

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from sqlalchemy import create_engine, text

from flywheel.blobs import Blobs
from flywheel.cli.starter import write_starter
from flywheel.errors import FlywheelError, UnavailableError, UnknownIdError
from flywheel.ledger.judged import get_report
from flywheel.loop import begin_night, open_loop, steps
from flywheel.project import load_project
from flywheel.records import content_id

pytestmark = pytest.mark.integration

STEPS = (
    steps.DEPLOY, steps.COLLECT, steps.ROUTE, steps.INGEST,
    steps.RETRAIN, steps.EVALUATE, steps.DECIDE,
)  # fmt: skip
PUT = "import sys; from flywheel.blobs import Blobs; Blobs.open(sys.argv[1]).put(b'late')"


@pytest.fixture(scope="module")
def bucket():
    """The URL of an empty bucket; who opens it needs only the usual environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as env:
        env.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        env.setenv("AWS_ACCESS_KEY_ID", "of-the-tests")
        env.setenv("AWS_SECRET_ACCESS_KEY", "of-the-tests")
        env.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="flywheel")
        yield "s3://flywheel"
    server.stop()


@pytest.fixture
def directory(tmp_path, bucket, postgres_server, free_url, monkeypatch):
    """The starter project with its storage elsewhere, and nobody at Label Studio's address."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "nobody asks for it")
    engine = create_engine(f"{postgres_server.url}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE stored"))
    engine.dispose()
    folder = tmp_path / "stored"
    write_starter(folder)
    settings = folder / "flywheel.toml"
    port = free_url().rpartition(":")[2]
    storage = f'ledger = "{postgres_server.url}/stored"\nblobs = "{bucket}/night"'
    nobody = f'[labeling]\nurl = "{free_url()}"\n[serve]\nport = {port}'
    settings.write_text(f"{TABLES.format(storage=storage)}{nobody}\n")
    return folder


TABLES = """
[project]
name = "stored"
task = "my_task:task"
[storage]
{storage}
[train]
steps = 2
device = "cpu"
"""


def test_a_night_needs_nothing_but_the_two_urls(directory, bucket):
    with open_loop(directory) as loop, begin_night(loop) as under_way:
        results = {step.name: under_way.do(step) for step in STEPS}
        with loop.ledger.read() as connection:
            report = get_report(connection, results["evaluate"].report_id)
    assert report.candidate_digest == results["retrain"].candidate_digest
    elsewhere = Blobs.open(f"{bucket}/night")
    for digest in (report.candidate_digest, report.scores_digest):
        assert content_id(elsewhere.get(digest)) == digest
    assert {one.name for one in elsewhere.stored()} >= {report.scores_digest}
    assert not list(load_project(directory).state.glob("**/*.db"))
    assert not list(load_project(directory).state.glob("**/blobs"))


def test_what_another_process_has_put_is_seen_at_once(bucket):
    url, digest = f"{bucket}/shared", content_id(b"late")
    blobs = Blobs.open(url)
    blobs.put(b"early")
    assert (digest in blobs, len(list(blobs.stored()))) == (False, 1)  # and so it has listed
    subprocess.run([sys.executable, "-c", PUT, url], check=True)
    assert digest in blobs
    assert blobs.get(digest) == b"late"
    stored = {one.name: one for one in blobs.stored()}[digest]
    assert (stored.size, blobs.find(digest)) == (4, stored)
    assert blobs.remove(stored)
    assert digest not in blobs
    with pytest.raises(UnknownIdError, match="no blob"):
        blobs.get(digest)


def test_an_object_with_other_bytes_is_never_passed_on(bucket):
    blobs = Blobs.open(f"{bucket}/changed")
    digest = blobs.put(b"right")
    key = f"changed/{digest[:2]}/{digest}"
    boto3.client("s3").put_object(Bucket="flywheel", Key=key, Body=b"wrong")
    with pytest.raises(FlywheelError, match="not its name; restore the file"):
        blobs.get(digest)


def test_a_store_that_does_not_answer_is_unavailable_and_may_be_asked_again(
    bucket, free_url, monkeypatch
):
    blobs = Blobs.open(f"{bucket}/silent")
    digest = blobs.put(b"there")
    with monkeypatch.context() as env:
        env.setenv("AWS_ENDPOINT_URL_S3", free_url())
        env.setenv("AWS_MAX_ATTEMPTS", "1")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(UnavailableError, match="does not answer: Could not connect"):
            Blobs.open(f"{bucket}/silent").put(b"lost")
    s3fs.S3FileSystem.clear_instance_cache()
    assert Blobs.open(f"{bucket}/silent").get(digest) == b"there"
