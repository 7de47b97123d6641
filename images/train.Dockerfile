# The training image: `local` for the container executor, `cloud` for machines that SkyPilot rents.
# `launch images build` builds it; docs/decisions/0012-a-container-holds-its-runs-lock.md says why it is as it is.
#
# Optional secrets, in no layer: `pip.conf` (an index of your own, or torch for the processor),
# `ca` (a CA bundle, where the network intercepts TLS).

# A plain Python: torch's wheels bring CUDA's libraries, which a CUDA base would hold a second time.
ARG BASE_IMAGE=python:3.11.14-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS environment
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY images/requirements.lock /opt/loralift/requirements.lock
# torch first: resolved together with the rest, pip would prefer its newest build. A container's
# root is read-only, so bytecode is made here; a file for a newer Python does not compile.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca \
    set -eu; \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    lock=/opt/loralift/requirements.lock; \
    home=/opt/loralift/envs/$(sha256sum "$lock" | cut -c1-16); \
    python3 -m venv "$home"; \
    ln -s "$home" /opt/loralift/venv; \
    set -- "$home/bin/python" -m pip install --disable-pip-version-check --no-compile; \
    "$@" "$(grep '^torch==' "$lock")"; \
    "$@" -r "$lock"; \
    "$home/bin/python" -m compileall -qq -j 0 "$home/lib" || true; \
    touch "$home/ready"

FROM environment AS code
ARG CUDA
COPY jobs /opt/loralift/code/jobs
COPY results /opt/loralift/code/results
RUN --mount=type=bind,source=images/check_stack.py,target=/tmp/check_stack.py \
    /opt/loralift/venv/bin/python -m compileall -q /opt/loralift/code \
    && /opt/loralift/venv/bin/python -P /tmp/check_stack.py /opt/loralift/requirements.lock "$CUDA"

# Debian, root, and what SkyPilot 0.14.1 installs on RunPod (sky/provision/runpod/utils.py) or asks of
# a machine: found there, it costs no paid minute.
# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS cloud
# No versions: Debian keeps only the newest of a release's packages.
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      curl netcat-openbsd openssh-server patch procps rsync sudo \
    && rm -f /etc/ssh/ssh_host_*
COPY --from=environment /opt/loralift /opt/loralift
COPY --from=code /opt/loralift/code /opt/loralift/code
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONPATH=/opt/loralift/code PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1
ARG WIRE_VERSION LOCK_SHA256 CUDA CONTENT VERSION REVISION
LABEL org.opencontainers.image.title="loralift-train" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      loralift.wire_version="${WIRE_VERSION}" \
      loralift.lock_sha256="${LOCK_SHA256}" \
      loralift.cuda="${CUDA}" \
      loralift.content="${CONTENT}"
# None: RunPod appends to it the shell with which SkyPilot starts sshd.
ENTRYPOINT []
CMD ["/bin/bash"]

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS local
COPY --from=environment /opt/loralift /opt/loralift
COPY --from=code /opt/loralift/code /opt/loralift/code
ENV HOME=/tmp NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONPATH=/opt/loralift/code PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1
ARG WIRE_VERSION LOCK_SHA256 CUDA CONTENT VERSION REVISION
LABEL org.opencontainers.image.title="loralift-train" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      loralift.wire_version="${WIRE_VERSION}" \
      loralift.lock_sha256="${LOCK_SHA256}" \
      loralift.cuda="${CUDA}" \
      loralift.content="${CONTENT}"
USER 65534:65534
ENTRYPOINT ["/opt/loralift/venv/bin/python", "-P", "-m", "jobs.train"]
