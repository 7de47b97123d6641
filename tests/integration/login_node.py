"""A login node in place of a Slurm cluster's: programs that answer SkyPilot's questions from a list
of nodes, and an `ssh` that runs what it is given here. It runs no jobs.
"""

from pathlib import Path

CLUSTER = "skylocal"
# node, state, GRES, CPUs, MiB, partition; the default partition bears a star, as in sinfo.
NODES = (
    ("n1", "idle", "gpu:RTX4090:2(S:0)", 64, 131072, "gpu-a*"),
    ("n2", "mix", "gpu:RTX4090:8", 128, 524288, "gpu-a*"),
    ("n2", "mix", "gpu:RTX4090:8", 128, 524288, "night"),
    ("n3", "idle", "gpu:nvidia_a100_sxm4_80gb:1", 32, 131072, "gpu-b"),
    ("n4", "idle", "gpu:nvidia_a100:1", 2, 8192, "small"),
    ("n5", "drain", "gpu:A10G:1", 64, 65536, "gpu-c"),
    ("n6", "idle", "gpu:a4000:1", 64, 65536, "gpu-c"),
    ("n7", "idle", "gpu:l4:1", 64, 65536, "gpu-c"),
    ("n8", "idle", "(null)", 16, 65536, "cpu"),
)
CONFIG = """\
slurm:
  pricing: {cpu: 0.02, memory: 0.001, accelerators: {RTX4090: 0.74, A100-80GB: 1.39}}
  cluster_configs:
    skylocal:
      pricing: {accelerators: {RTX4090: 0.6}}
      partition_configs:
        night: {pricing: {accelerators: {RTX4090: 0.25}}}
"""
# What SkyPilot takes a name of a GPU for before it asks anybody.
ACCELERATORS = """\
AcceleratorName,Clouds
A100-80GB,"['runpod']"
L4,"['runpod']"
RTX4090,"['runpod']"
"""
SSH = """\
#!/usr/bin/env python3
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    valued = len(words[0]) == 2 and words[0][1] in "BbcDEeFIiJLlmOopQRSWw"
    words = words[2:] if valued else words[1:]
os.execvp("sh", ["sh", "-c", " ".join(words[1:])])  # behind the host's name
"""


def stand_in(home: Path, python: str) -> str:
    """Put the login node into `home`; a SkyPilot interpreter that goes there for its cluster."""
    programs = home / "login-node"
    for folder in (programs, home / ".ssh", home / ".slurm", home / ".sky/catalogs/v8/common"):
        folder.mkdir(parents=True, exist_ok=True)
    (home / ".ssh" / "id").write_text("")
    (home / ".slurm" / "config").write_text(
        f"Host {CLUSTER}\n  HostName 127.0.0.1\n  User sky\n  IdentityFile {home}/.ssh/id\n"
    )
    (home / ".sky" / "config.yaml").write_text(CONFIG)
    (home / ".sky/catalogs/v8/common/accelerators.csv").write_text(ACCELERATORS)
    # SkyPilot asks through a login shell, which sets a PATH of its own.
    (home / ".bash_profile").write_text(f"export PATH={programs}:$PATH\n")
    nodes = "\n".join("\\x1f".join(map(str, node)) for node in NODES)
    names = dict.fromkeys(node[-1] for node in NODES)
    partitions = "\n".join(
        f"PartitionName={name.rstrip('*')} Default={'YES' if '*' in name else 'NO'} "
        "DefaultTime=NONE MaxTime=UNLIMITED State=UP"
        for name in names
    )
    _program(programs / "ssh", SSH)
    _program(programs / "sinfo", _answering({"--Node": nodes}))
    _program(
        programs / "scontrol",
        _answering({"partitions": partitions, "config": "SelectTypeParameters = CR_CPU_MEMORY"}),
    )
    wrapper = programs / "python"
    _program(wrapper, f'#!/bin/sh\nexport HOME={home} PATH={programs}:$PATH\nexec {python} "$@"\n')
    return str(wrapper)


def _answering(answers: dict[str, str]) -> str:
    """A program that prints what belongs to a word of its arguments."""
    cases = [f"*{word}*) cat <<'END'\n{text}\nEND\n;;" for word, text in answers.items()]
    return "\n".join(["#!/bin/sh", 'case "$*" in', *cases, "esac", ""])


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
