FROM python:3.11.15-slim-trixie

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

# The sandbox of agents' commands, and what clones their repositories.
RUN apt-get update && apt-get install -y --no-install-recommends bubblewrap git && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY workflows workflows
COPY activities activities
COPY client client
RUN pip install -c constraints.txt '.[all]'

# The folder of the object store exists, so that a volume mounted there belongs to the user.
RUN useradd --create-home --uid 1000 sojourn && install --directory --owner sojourn /home/sojourn/store
USER sojourn
WORKDIR /home/sojourn

# The process ends when its worker does; what is left to check is the way to the server, named by TEMPORAL_ADDRESS.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
    CMD ["temporal", "operator", "cluster", "health"]

ENTRYPOINT ["sojourn"]
CMD ["worker"]
