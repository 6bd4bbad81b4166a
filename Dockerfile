# A runtime as a container: docs/deployment.md. Built from a checkout: docker build -t helmr .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY helmr helmr
COPY runtime runtime
COPY console console
# pyarrow: clients get the results of SQL as Arrow, for tables and Parquet. pip writes bytecode, without which each process of a runtime compiles Ray anew.
RUN python -m venv /opt/helmr && \
    /opt/helmr/bin/python -m pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt '.[runtime,mcp,otel,bucket,postgres]' pyarrow

FROM python:${PYTHON}-slim
# A data directory for its owner alone, as `helmr up` asks for. What else is written, is to /tmp.
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp helmr && \
    install --directory --mode=0700 --owner=helmr --group=helmr /var/lib/helmr && \
    install --directory --mode=0755 /app
COPY --from=build /opt/helmr /opt/helmr
ENV PATH=/opt/helmr/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /app
VOLUME /var/lib/helmr
EXPOSE 4356
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4356/readyz', timeout=4)"]
ENTRYPOINT ["helmr"]
# Without arguments the tasks are those of /app/pyproject.toml: [tool.helmr] tasks.
CMD ["up", "--host", "0.0.0.0", "--data-dir", "/var/lib/helmr"]
