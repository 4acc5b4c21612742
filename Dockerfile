# The backup service. Built by docker-compose.backup.yml; the guide knows this file as docker/backup-cron/Dockerfile.
FROM python:3.13-slim AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /opt/venv
# Dependencies first: an edit of the program does not install them again.
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN mkdir hubbackup && touch hubbackup/__init__.py \
    && /opt/venv/bin/pip install --constraint constraints.txt . \
    && /opt/venv/bin/pip uninstall --yes hubbackup
COPY hubbackup hubbackup
RUN /opt/venv/bin/pip install --no-deps . \
    && /opt/venv/bin/pip uninstall --yes pip \
    # botocore carries the description of 400 services; S3, and what its credentials may come from, are enough.
    && cd /opt/venv/lib/python3*/site-packages/botocore/data \
    && find . -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name 'sso*' ! -name sts ! -name signin -exec rm -r {} +

FROM python:3.13-slim

COPY --from=build /opt/venv /opt/venv
COPY docker/backup-cron/hubbackup /usr/local/bin/hubbackup
ENV PYTHONUNBUFFERED=1 HUBBACKUP_RUNTIME_DIR=/run/hubbackup
VOLUME /var/backups/hub-chantier
HEALTHCHECK --interval=60s --timeout=10s --start-period=20s --retries=3 CMD ["hubbackup", "health"]
ENTRYPOINT ["hubbackup"]
CMD ["daemon"]
