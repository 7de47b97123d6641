"""Podman without root, as most people have it: the sample job of somebody with storage of their
own, beside the same job as a process of root's.

    pytest tests/soak/test_rootless.py
"""

from tests.integration.conftest import nvml, train_python
from tests.integration.containers import engines
from tests.integration.containers.conftest import docker, place, process_run
from tests.integration.containers.engines import Docker
from tests.integration.containers.person import Person
from tests.integration.containers.test_person import judge, somebody

__all__ = ["docker", "nvml", "place", "process_run", "somebody", "train_python"]  # the fixtures

# The same as root's Podman has, where a machine is a container itself and has no systemd.
SETTINGS = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def test_podman_without_root(somebody: Person, docker: Docker, process_run: tuple) -> None:
    settings = somebody.home / "containers.conf"
    settings.write_text(SETTINGS)
    environ = {**somebody.variables, "CONTAINERS_CONF": str(settings)}
    load = somebody.as_them("podman", "load", "--quiet")
    engines.carry_over(docker, load, environ, somebody.home)
    assert somebody.ask("podman", "info", "--format", "{{.Host.Security.Rootless}}") == "true"
    judge(somebody.launch(CONTAINERS_CONF=str(settings)), somebody, "podman", process_run)
    assert somebody.ask("podman", "ps", "--all", "--quiet") == ""
