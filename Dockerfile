# syntax=docker/dockerfile:1
# docker build -t chat-studio . && docker run -p 8000:8000 -v chat-studio:/data chat-studio

# ---- The wheel, with the web client inside --------------------------------------------------------------------------
FROM node:24-slim AS node

FROM python:3.13-slim AS build
COPY --from=node /usr/local/bin/node /usr/local/bin/
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /build

# uv by its hash from the lock, then the dependencies: a layer of their own, rebuilt only when the lock changes.
ENV UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
COPY requirements.lock pyproject.toml ./
RUN awk '/^[^ #]/ {mine = /^uv==/} mine && !/^ *#/' requirements.lock > uv.lock \
    && pip install --no-cache-dir --no-deps --require-hashes -r uv.lock \
    && uv venv /opt/chat-studio \
    && uv pip install --python /opt/chat-studio --require-hashes --compile-bytecode \
        -r pyproject.toml -c requirements.lock

COPY . .
RUN uv build --wheel --require-hashes --build-constraints requirements.lock \
    && uv pip install --python /opt/chat-studio --no-deps --compile-bytecode dist/*.whl

# ---- The image ------------------------------------------------------------------------------------------------------
FROM python:3.13-slim
LABEL org.opencontainers.image.title="Chat Studio" org.opencontainers.image.licenses="MIT"

RUN groupadd --gid 10001 studio \
    && useradd --uid 10001 --gid studio --home-dir /data --no-create-home --shell /usr/sbin/nologin studio \
    && install --directory --owner studio --group studio --mode 0700 /data
COPY --from=build /opt/chat-studio /opt/chat-studio
ENV PATH=/opt/chat-studio/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Ctrl-C's signal would be taken for a developer's; the server drains on SIGTERM and stops its own Postgres.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["chat-studio", "serve", "--host", "0.0.0.0", "--port", "8000", "--data-dir", "/data"]
