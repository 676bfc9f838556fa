# Label Studio in an environment of its own: its pins clash with Prefect's.
#   docker build -f docker/label-studio.Dockerfile .
ARG PYTHON_IMAGE=python:3.11.14-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/label-studio
COPY docker/label-studio.txt ./
RUN /opt/label-studio/bin/pip install -r label-studio.txt

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 flywheel \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin flywheel \
    && install -d -o flywheel -g flywheel /data
COPY --from=build /opt/label-studio /opt/label-studio
COPY --chmod=0755 docker/entrypoint.sh docker/health.py /usr/local/bin/
ENV PATH=/opt/label-studio/bin:$PATH \
    HOME=/tmp \
    LABEL_STUDIO_BASE_DATA_DIR=/data \
    OPENBLAS_NUM_THREADS=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["entrypoint.sh"]
CMD ["label-studio", "start", "--no-browser", "--enable-legacy-api-token", "--internal-host", "0.0.0.0", "--port", "8080"]
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s \
    CMD ["health.py", "http://127.0.0.1:8080/health/"]
