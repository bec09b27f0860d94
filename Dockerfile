# The one image of all programs: `integrations operator`, `dispatcher`, `worker`, `migrate`.
#
# Runs as nobody in particular, on a read-only root file system; /tmp is the only place that may be written to.

FROM python:3.12-slim-bookworm AS builder

# Bytecode is compiled here: at run time there is nowhere to write it to.
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_NO_PROGRESS=1 \
    UV_PROJECT_ENVIRONMENT=/opt/integrations \
    UV_PYTHON=/usr/local/bin/python3 \
    UV_PYTHON_DOWNLOADS=never

RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore uv==0.13.9

WORKDIR /build

# Dependencies first: they change less often than the code, and this layer with them.
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --no-editable --no-install-project

COPY LICENSE NOTICE README.md ./
COPY contracts contracts
COPY store store
COPY connectors connectors
COPY delivery delivery
COPY ingress ingress
COPY programs programs
COPY local local
COPY integrations integrations
COPY operator operator
COPY examples/connector examples/connector
RUN uv sync --frozen --no-dev --no-editable

FROM python:3.12-slim-bookworm

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Queast Integration Layer" \
      org.opencontainers.image.description="Carries a product's events to its customers' CRMs and webhooks" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The database driver brings an OpenSSL of its own; this is where it finds the system's authorities
# (sslrootcert=system).
ENV PATH=/opt/integrations/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt

COPY --from=builder /opt/integrations /opt/integrations

# No name in /etc/passwd belongs to it, and no home: nothing in the image is its own.
USER 65532:65532
WORKDIR /tmp

HEALTHCHECK NONE
ENTRYPOINT ["integrations"]
