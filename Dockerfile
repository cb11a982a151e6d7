# One image for every role: `python -m config.roles web|stream|worker|signer|beat|flower`.
# No BuildKit cache mounts: Railway takes them only with an id that names its own service.

FROM python:3.11-slim-bookworm AS build
WORKDIR /app
RUN python -m venv --without-pip /venv
COPY requirements/base.txt requirements/
RUN python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check \
    --require-hashes --only-binary :all: -r requirements/base.txt
ENV PATH=/venv/bin:$PATH DJANGO_SETTINGS_MODULE=config.settings.production
COPY manage.py ./
COPY config config
COPY workers workers
COPY apps apps
# collectstatic loads production's settings, which want values; these exist for this one command only.
RUN SECRET_KEY=build ALLOWED_HOSTS=build DATABASE_URL=postgresql://build@localhost/build \
    REDIS_URL=redis://localhost ENCRYPTION_KEYS=build:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= \
    ACCESS_TOKEN_KEYS=build:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= \
    MAIL_TRANSPORT=database MAIL_FROM=build@localhost PUBLIC_URL=https://localhost \
    python manage.py collectstatic --noinput --verbosity 0 \
    && python -m compileall -q config workers apps

FROM python:3.11-slim-bookworm AS runtime
# Debian keeps only the newest build of a package, so a pinned version would break the next build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1001 tranche \
    && useradd --uid 1001 --gid 1001 --no-create-home --home-dir /app --shell /usr/sbin/nologin tranche
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app /app
ARG RELEASE=0.1.0
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=config.settings.production \
    RELEASE=$RELEASE \
    HOST=0.0.0.0 \
    PORT=8000 \
    HEARTBEAT_DIR=/tmp
USER 1001:1001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=40s --retries=4 CMD ["python", "-m", "config.health"]
# tini reaps what a dying worker leaves behind and passes SIGTERM on.
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "config.roles", "web"]
