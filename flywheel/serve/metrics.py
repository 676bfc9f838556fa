"""Prometheus metrics at /metrics: traffic, the serving model, and the state of the loop.

Traffic is counted in memory. The state of the loop is read from the ledger when Prometheus
scrapes, at most every ten seconds. Each server has a registry of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flywheel.errors import UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.failures import count_failures
from flywheel.ledger.judged import get_decision
from flywheel.ledger.progress import count_labeling
from flywheel.ledger.releases import current_release
from flywheel.ledger.tables import labels, nights
from flywheel.records import Verdict
from flywheel.serve.answers import Answered

_FRESH_SECONDS = 10.0
_ENDPOINTS = (
    "/predict",
    "/feedback",
    "/health",
    "/healthz",
    "/readyz",
    "/model",
    "/model/canary",
    "/metrics",
    "/",
)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Meter:
    """Counts the traffic of one server; thread-safe."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "flywheel_http_requests",
            "Requests by endpoint and HTTP status.",
            ["endpoint", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "flywheel_http_request_duration_seconds",
            "From a request's first byte to its answer's last one.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._series = dict[tuple[str, int], tuple[Counter, Histogram]]()
        self._sizes = Histogram(
            "flywheel_batch_size",
            "Predictions that shared one forward pass.",
            buckets=_SIZES,
            registry=registry,
        )
        self._confidence = Histogram(
            "flywheel_prediction_confidence",
            "Confidence of the answers given.",
            buckets=_SHARES,
            registry=registry,
        )
        names = ("deferred", "stored", "failed")
        endings = ("were below the threshold", "are in the ledger", "could not be stored")
        self._deferred, self._stored, self._failed = (
            Counter(f"flywheel_predictions_{name}", f"Predictions that {what}.", registry=registry)
            for name, what in zip(names, endings, strict=True)
        )
        self._feedback = Counter(
            "flywheel_feedback", "Feedback stored, by kind.", ["kind"], registry=registry
        )

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        found = self._series.get((endpoint, status))
        if found is None:  # kept, since looking it up by its labels takes as long as counting
            made = self._requests.labels(endpoint, str(status)), self._seconds.labels(endpoint)
            found = self._series.setdefault((endpoint, status), made)
        number, duration = found
        number.inc()
        duration.observe(seconds)

    def stored(self, batch: Sequence[Answered]) -> None:
        """Count a stored batch."""
        self._sizes.observe(len(batch))
        self._stored.inc(len(batch))
        for answered in batch:
            self._confidence.observe(answered.prediction.confidence)
            if answered.defer:
                self._deferred.inc()

    def failed(self, num_predictions: int) -> None:
        """Count predictions that could not be stored."""
        self._failed.inc(num_predictions)

    def feedback(self, kind: str) -> None:
        """Count stored feedback."""
        self._feedback.labels(kind).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class LedgerMetrics(Collector):
    """The state of the loop from the ledger; cached for ten seconds.

    If the ledger cannot be read, flywheel_ledger_up is 0 and the rest is left out.
    """

    def __init__(self, ledger: Ledger, digest: Callable[[], str | None]) -> None:
        self._ledger, self._digest = ledger, digest
        self._lock = threading.Lock()
        self._kept: list[Metric] = []
        self._read_at = -_FRESH_SECONDS

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering runs no query."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, at most ten seconds old."""
        with self._lock:
            now = time.monotonic()
            if not self._kept or now - self._read_at >= _FRESH_SECONDS:
                self._kept, self._read_at = self._read(), now
            kept = self._kept
        yield from kept

    def _read(self) -> list[Metric]:
        up = "Whether the ledger could be read, 1 or 0."
        try:
            with self._ledger.read() as connection:
                found = [
                    *_model(connection, self._digest()),
                    *_nights(connection),
                    *_labeling(connection),
                ]
        except (UnavailableError, SQLAlchemyError, OSError):
            return [GaugeMetricFamily("flywheel_ledger_up", up, value=0)]
        return [GaugeMetricFamily("flywheel_ledger_up", up, value=1), *found]


class Measured:
    """ASGI middleware: measures duration and status of every request."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app, self._meter = app, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            endpoint = _endpoint(scope["path"])
            self._meter.request(endpoint, status, time.perf_counter() - start)


def _endpoint(path: str) -> str:
    """Return one of a few names, so that unknown paths create no new time series."""
    if path in _ENDPOINTS:
        return path
    return "/reports" if path.startswith("/reports/") else "other"


def _model(connection: Connection, digest: str | None) -> Iterator[Metric]:
    release = current_release(connection)
    info = GaugeMetricFamily(
        "flywheel_model_info",
        "The model that serves, and the number of its release.",
        labels=["digest", "release"],
    )
    if digest is not None:
        is_released = release is not None and release.checkpoint_digest == digest
        number = str(release.number) if release is not None and is_released else ""
        info.add_metric([digest, number], 1)
    yield info
    if release is not None:
        yield GaugeMetricFamily(
            "flywheel_release_age_seconds",
            "Since the newest release was made.",
            value=_age(release.created_at),
        )


def _nights(connection: Connection) -> Iterator[Metric]:
    done = nights.c.finished_at.is_not(None)
    query = select(func.count(), func.max(nights.c.number)).where(done)
    count, last = connection.execute(query).one()
    yield CounterMetricFamily("flywheel_nights_finished", "Nights that finished.", value=count)
    if last is None:
        return
    finished = connection.execute(select(nights.c.finished_at).where(nights.c.number == last))
    yield GaugeMetricFamily(
        "flywheel_last_night_age_seconds",
        "Since the last night finished.",
        value=_age(finished.scalar_one()),
    )
    decision = get_decision(connection, last)
    verdicts = GaugeMetricFamily(
        "flywheel_last_night_verdict", "1 for the last night's verdict, else 0.", labels=["verdict"]
    )
    for verdict in Verdict:
        is_it = decision is not None and decision.verdict is verdict
        verdicts.add_metric([verdict.value], int(is_it))
    yield verdicts


def _labeling(connection: Connection) -> Iterator[Metric]:
    failures = GaugeMetricFamily("flywheel_failures", "Failures by state.", labels=["state"])
    for state, number in count_failures(connection).items():
        failures.add_metric([state.value], number)
    yield failures
    tasks = GaugeMetricFamily(
        "flywheel_labeling_tasks",
        "Labeling tasks that wait to be sent, or are with annotators.",
        labels=["state"],
    )
    counts = count_labeling(connection)
    for name in ("waiting", "sent"):
        tasks.add_metric([name], counts[name])
    yield tasks
    query = select(func.count()).select_from(labels).where(labels.c.answer.is_not(None))
    yield CounterMetricFamily(
        "flywheel_labels", "Labels in the ledger.", value=connection.execute(query).scalar_one()
    )


def _age(moment: datetime) -> float:
    return max(0.0, (datetime.now(UTC) - moment).total_seconds())
