# SeaweedFS without root: a folder for its data that its user owns, and secrets from files.
#   docker build -f docker/object-store.Dockerfile .
FROM chrislusf/seaweedfs:4.48
USER 0:0
RUN mkdir -p /objects && chown 1000:1000 /objects
COPY --chmod=0755 docker/entrypoint.sh /usr/local/bin/
USER 1000:1000
ENTRYPOINT ["entrypoint.sh"]
# Only S3 is reached from outside of the container: the ports behind it ask for no key.
CMD ["weed", "server", "-dir=/objects", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", \
    "-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=0", \
    "-s3", "-s3.ip.bind=0.0.0.0", "-s3.port=8333", "-s3.port.iceberg=0", "-s3.port.lance=0"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8333/healthz"]
