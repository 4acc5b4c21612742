# The backup service. Built by docker-compose.backup.yml; the guide knows this file as docker/backup-cron/Dockerfile.
FROM python:3.13-slim AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt constraints-build.txt ./
# Dependencies first: an edit of the program does not install them again. Each file is checked by its hash.
RUN python3 -m venv --without-pip /opt/venv \
    && pip --python /opt/venv install --require-hashes --requirement constraints.txt \
    && pip install --require-hashes --requirement constraints-build.txt \
    # botocore carries the description of 400 services; S3, and what its credentials may come from, are enough.
    && cd /opt/venv/lib/python3*/site-packages/botocore/data \
    && find . -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name 'sso*' ! -name sts ! -name signin -exec rm -r {} +
COPY pyproject.toml README.md LICENSE ./
COPY hubbackup hubbackup
# Started once: an image that can't even print its help must not be built.
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/venv install --no-deps /wheels/*.whl && /opt/venv/bin/hubbackup --help > /dev/null

FROM python:3.13-slim

# The official image has no compiled standard library, and without root no command could keep what it has compiled.
RUN python3 -m compileall -q -x '/tests?/' "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

# PostgreSQL's client tools for BACKUP_SOURCE=direct. By default those of 15 to 18 that can be had where this is built;
# majors that are named must be had: --build-arg POSTGRES_MAJORS="16 17"; none leaves them out.
ARG POSTGRES_MAJORS=
COPY docker/backup-cron/postgres-tools /usr/local/lib/hubbackup/postgres-tools
# shellcheck disable=SC2086 # a list of words
RUN /usr/local/lib/hubbackup/postgres-tools $POSTGRES_MAJORS

ENV PYTHONUNBUFFERED=1 HUBBACKUP_RUNTIME_DIR=/run/hubbackup
# A volume that Docker makes anew has this owner, so that a container without root can write into it.
RUN install -d -o 10001 -g 10001 -m 0700 /var/backups/hub-chantier
VOLUME /var/backups/hub-chantier
HEALTHCHECK --interval=60s --timeout=10s --start-period=20s --retries=3 CMD ["hubbackup", "health"]
ENTRYPOINT ["hubbackup"]
CMD ["daemon"]
COPY docker/backup-cron/hubbackup /usr/local/bin/hubbackup
COPY --from=build /opt/venv /opt/venv
