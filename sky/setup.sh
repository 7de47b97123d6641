#!/usr/bin/env bash
# The training environment: the image's, where it has that of requirements.lock
# (docs/decisions/0011-an-image-is-known-by-its-lock.md), else made from the lock and kept by its
# hash: on a machine whose home stays (Slurm, SSH nodes) it is made once, and once more for each node
# that its python does not run on. ~/loralift/venv points to it.
# LORALIFT_ENVS names another folder to keep it in, LORALIFT_IMAGE_ENVS to find the image's in.
set -euo pipefail

# SkyPilot 0.14 leaves the scripts that it made of this task, its secrets in them, among the temporary
# files (run_bash_command_with_log of sky/skylet/log_lib.py): on a cluster those outlive the job.
# bash has them open and reads on.
grep -lsF "${SKYPILOT_TASK_ID:-no task}" "${TMPDIR:-/tmp}"/sky_app_* | xargs -r rm -f || true

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

# SkyPilot sets a HOME of its own on Slurm, which goes with the cluster.
real_home=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6 || true)
[ -n "$real_home" ] && [ -d "$real_home" ] && [ -w "$real_home" ] || real_home=$HOME
PATH=$PATH:$HOME/.local/bin:$real_home/.local/bin # where SkyPilot puts uv
# An environment that stays needs an interpreter that stays.
export UV_PYTHON_INSTALL_DIR=${UV_PYTHON_INSTALL_DIR:-$real_home/.local/share/uv/python}
lock=~/loralift/requirements.lock

find_python() {
  local name path
  for name in python3.13 python3.12 python3.11 python3 python; do
    path=$(command -v "$name") || continue
    if "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$path"
      return
    fi
  done
  command -v uv >/dev/null && uv python install 3.12 >&2 && uv python find 3.12
}

make_venv() { # PYTHON FOLDER
  rm -rf "$2"
  "$1" -m venv "$2" && return
  echo "python3-venv is missing here; trying uv, then virtualenv"
  rm -rf "$2"
  command -v uv >/dev/null && uv venv --seed --python "$1" "$2" && return
  rm -rf "$2"
  "$1" -m pip install --quiet --target "$2.virtualenv" virtualenv &&
    PYTHONPATH=$2.virtualenv "$1" -m virtualenv "$2" && return
  fail "no virtual environment can be made with $1: it has neither ensurepip nor pip" \
    "apt-get install python3-venv, or take another image"
}

is_ready() {
  [ -f "$1/ready" ] && "$1/bin/python" -c '' 2>/dev/null
}

wait_for_lock() { # someone else may be making it; touching `alive` says that this wait is no stall
  local turn
  for turn in $(seq 90); do
    flock --wait 20 9 && return
    touch ~/loralift/alive
    echo "waiting for another set-up that makes this environment ($turn of 90)"
  done
  fail "another set-up holds $1 for half an hour; end it, or remove that file"
}

choose_environment() {
  local digest image_envs
  digest=$(sha256sum "$lock" | cut -c1-16)
  image_envs=${LORALIFT_IMAGE_ENVS:-/opt/loralift/envs}
  if is_ready "$image_envs/$digest"; then
    use_environment "$image_envs/$digest"
    return
  fi
  [ ! -d "$image_envs" ] ||
    echo "the image has no environment of this lock that runs here ($image_envs/$digest)"
  make_environment "$digest"
}

use_environment() {
  ln -sfn "$1" ~/loralift/venv
  echo "training environment: $1"
}

make_environment() { # DIGEST
  local envs home python
  envs=${LORALIFT_ENVS:-$real_home/.cache/loralift/envs}
  home=$envs/$1
  mkdir -p "$envs"
  exec 9>"$home.lock"
  wait_for_lock "$home.lock"
  if ! is_ready "$home"; then
    # Ready, but not for this node: another may be running a job from it.
    [ ! -f "$home/ready" ] || home=$home-$(uname -m)-$(uname -n)
  fi
  if ! is_ready "$home"; then
    [ ! -f "$home/ready" ] ||
      fail "$home was made here, and its python does not run any more" \
        "remove that folder when no job uses it"
    python=$(find_python) ||
      fail "Python >= 3.11 is needed and not here: $(python3 --version 2>&1)" \
        "take an image that has it, or one where uv can fetch it"
    echo "making the training environment in $home with $python"
    make_venv "$python" "$home"
    # torch first: resolved together with the rest, pip would prefer its newest build.
    "$home/bin/python" -m pip install --disable-pip-version-check "$(grep '^torch==' "$lock")"
    "$home/bin/python" -m pip install --disable-pip-version-check -r "$lock"
    touch "$home/ready"
  fi
  use_environment "$home"
}

add_tracker() { # what `--track` needs beside the lock; the training does without where it fails
  local tracker=~/loralift/tracker.lock
  rm -rf ~/loralift/tracker
  [ -s "$tracker" ] || return 0
  echo "adding what ${tracker##*/} names"
  ~/loralift/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
    --target ~/loralift/tracker -r "$tracker" || echo "it cannot be had: nothing will be tracked"
}

mkdir -p ~/loralift/run
# one after the other, not `&&`: left of that `set -e` would not end it
{ choose_environment; add_tracker; } 2>&1 | tee -a ~/loralift/run/job.log
