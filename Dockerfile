# The four services, and `dtf` for operators. How to run them: docs/deployment.md.
#
#   docker build --tag dtf-services .
#   docker run --env-file .env --publish 127.0.0.1:8080:8080 dtf-services python -m services.images

FROM python:3.11.15-slim-bookworm AS build

WORKDIR /app
COPY requirements-runtime.lock ./
# No package runs code of its own here but pyvips, which has no wheel. It binds to the libvips of pyvips-binary.
RUN python -m venv --without-pip /venv \
    && pip --python /venv install --no-cache-dir --no-deps --only-binary :all: --no-binary pyvips --require-hashes \
        --requirement requirements-runtime.lock
COPY services/images/weights services/images/weights
RUN python -m services.images.weights /venv/share/dtf/weights
COPY services services
COPY local local
COPY cli cli
# Bytecode is made here, because the services' user cannot write it.
RUN /venv/bin/python -m compileall -q services local cli \
    && printf '#!/venv/bin/python\nfrom cli.main import app\n\napp()\n' > /venv/bin/dtf \
    && chmod 755 /venv/bin/dtf


FROM python:3.11.15-slim-bookworm

# What only root can read, the kernel shows of no process that runs it: a child of the worker, with a hostile picture in
# it, finds the secret key in no environment and no memory, not even for the moment of a health check.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin dtf \
    && chmod 711 "$(readlink --canonicalize "$(command -v python)")"

WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app/services services
COPY --from=build /app/local local
COPY --from=build /app/cli cli

# Each service is alone in its container, so all of them listen at one port, where the health check asks.
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app \
    WORKER_HTTP_HOST=0.0.0.0 WORKER_HTTP_PORT=8080 \
    BILLING_HTTP_HOST=0.0.0.0 BILLING_HTTP_PORT=8080 \
    EMAIL_HTTP_HOST=0.0.0.0 EMAIL_HTTP_PORT=8080 \
    MAINTENANCE_HTTP_HOST=0.0.0.0 MAINTENANCE_HTTP_PORT=8080
EXPOSE 8080

USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import http.client as http; c = http.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["python", "-m", "services.images"]
