"""Runs in SkyPilot's environment: SkyPilot's calls for the launcher, one after the other.

python -c THIS, then on stdin one JSON object a line, {"call": NAME, ARGUMENT: ...}; on stdout one
line for each, {"answer": ...} or {"error": {"kinds": [class names], "message": ...}}. It ends with
its input. Imports SkyPilot and the standard library alone; what SkyPilot prints goes to stderr.
"""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from typing import Any

import sky
import yaml
from sky import skypilot_config
from sky.jobs.utils import generate_managed_job_cluster_name
from sky.server import common as server
from sky.utils import common, controller_utils

RUN = "~/loralift/run"


def launch(cluster: str, task: str) -> str:
    """Ask for the machine and the job; the request's id, at once."""
    return str(sky.launch(with_secrets(task), cluster_name=cluster))


def with_secrets(path: str) -> sky.Task:
    """The task, with the values that its file names alone: they are this environment's."""
    with open(path, encoding="utf-8") as file:
        tree = yaml.safe_load(file)
    named = tree.pop("secrets", None) or {}
    task = sky.Task.from_yaml_config(tree)
    task.update_secrets({name: os.environ[name] for name in named})
    return task


def requests(cluster: str) -> list[dict[str, Any]]:
    """What was asked to launch there, the newest first."""
    found = sky.api_status(all_status=True, cluster_name=cluster)
    launches = [r for r in found if r.name.removeprefix("sky.") == "launch"]
    launches.sort(key=lambda r: -r.created_at)
    return [{"id": r.request_id, "status": r.status, "said": r.status_msg} for r in launches]


def outcome(request: str) -> None:
    """Wait for a request to end; its error is raised here."""
    sky.get(request)


def abort(request: str) -> None:
    sky.get(sky.api_cancel([request]))


def status(cluster: str, job: str | None = None) -> dict[str, Any]:
    """The cluster as SkyPilot sees it now, and its last job, or the last of that name."""
    record = known(cluster, refresh=common.StatusRefreshMode.AUTO)
    if record is None:
        return {"cluster": None, "job": None}
    if record["status"].value != "UP":
        return {"cluster": record["status"].value, "job": None}
    try:
        last = named_job(cluster, job) if job else last_job(cluster)
    except sky.exceptions.ClusterDoesNotExist:  # it went between the two questions
        return {"cluster": None, "job": None}
    return {"cluster": "UP", "job": last.value if last is not None else None}


def last_job(cluster: str) -> Any:
    (last,) = sky.get(sky.job_status(cluster)).values()
    return last


def named_job(cluster: str, name: str) -> Any:
    found = [job for job in sky.get(sky.queue(cluster)) if job.job_name == name]
    return max(found, key=lambda job: job.job_id).status if found else None


def read(cluster: str, files: dict[str, tuple[int, str]]) -> dict[str, str]:
    """The bytes of files of the run's folder from an offset on, as base64; absent ones left out.

    With each offset comes the SHA-256 of what is known up to there. A file that does not begin so
    was replaced or cut back: its name ends in `!`, and all of it follows.
    """
    lines = [f"cd {RUN} 2>/dev/null || exit 0"]
    for name, (offset, known) in files.items():
        quoted = shlex.quote(name)
        lines.append(
            f"if [ -f {quoted} ]; then n=$(stat -c %s {quoted}); o={offset}; m=; "
            f'[ "$o" = 0 ] || {{ [ "$n" -ge "$o" ] && '
            f'[ "$(head -c $o {quoted} | sha256sum | cut -c1-64)" = {known} ]; }} '
            f"|| {{ o=0; m=!; }}; "
            f'echo "@@ {name}$m $(tail -c +$((o + 1)) {quoted} | head -c {READ_AT_MOST} '
            '| base64 -w0)"; fi'
        )
    done, out = on_machine(cluster, "\n".join(lines))
    if done != 0:
        raise RuntimeError(f"the machine's files cannot be read: {out[-300:]}")
    parts = [line.split(" ") for line in out.splitlines() if line.startswith("@@ ")]
    return {name: content for _, name, content in parts}


READ_AT_MOST = 4_000_000  # bytes of a file in one answer


def run(cluster: str, command: str) -> list[Any]:
    """A command on the machine: [exit code, what it printed]."""
    return list(on_machine(cluster, command))


def pull(cluster: str, names: list[str], target: str, growing: list[str]) -> None:
    """What there is of these files and folders of the run's folder, by rsync.

    A folder is there when it is whole, and not before; one of `growing` has its own marks of that,
    and keeps what was there.
    """
    listed = " ".join(f"{RUN}/{shlex.quote(name)}" for name in names)
    done, out = on_machine(cluster, f"ls -d1F {listed} 2>/dev/null || true")
    if done != 0:
        raise RuntimeError(f"the machine's files cannot be listed: {out[-300:]}")
    runner = machine(cluster)
    for line in out.splitlines():
        name = os.path.basename(line.rstrip("/*"))
        place = f"{target}/{name}"
        if line.endswith("/"):
            aside = place if name in growing else f"{place}.part"  # a pull that broke off goes on
            os.makedirs(aside, exist_ok=True)
            runner.rsync(f"{RUN}/{name}/", f"{aside}/", **PULLING)
            if aside != place:
                shutil.rmtree(place, ignore_errors=True)
                os.replace(aside, place)
        else:
            runner.rsync(f"{RUN}/{name}", place, **PULLING)


PULLING: dict[str, Any] = {"up": False, "stream_logs": False, "max_retry": 3}


def stay(cluster: str, minutes: int) -> None:
    """The machine goes by itself after so many idle minutes, and no sooner."""
    sky.get(sky.autostop(cluster, idle_minutes=minutes, down=True))


def down(cluster: str) -> None:
    """Take the machine down; it is gone when this returns."""
    try:
        sky.get(sky.down(cluster))
    except sky.exceptions.ClusterDoesNotExist:
        return


def cost(cluster: str) -> dict[str, Any] | None:
    """SkyPilot's own account: dollars, duration × catalog price, and until when (Unix time).

    Over all machines that had the name: a managed job's has it once for each recovery.
    """
    found = [r for r in sky.get(sky.cost_report(days=365)) if r["name"] == cluster]
    if not found:
        return None
    ends = [end for r in found for _, end in r["usage_intervals"] or [] if end]
    return {
        "usd": sum(float(r["total_cost"]) for r in found),
        "until": max(ends, default=None),
        "region": found[0].get("region"),
    }


def controller() -> dict[str, Any]:
    """Of consolidation mode: `wanted` is what the configuration says, `on` whether the server of
    managed jobs has it."""
    sky.api_status(limit=1)  # starts the server, which is what knows
    local = server.is_api_server_local()
    wanted = skypilot_config.get_nested(("jobs", "controller", "consolidation_mode"), None)
    on = controller_utils.is_jobs_consolidation_mode() if local else bool(wanted)
    return {"wanted": wanted, "on": on}


def jobs_launch(name: str, task: str) -> str:
    """Ask for a managed job; the request's id, at once."""
    return str(sky.jobs.launch(with_secrets(task), name=name, job_group=None))


def jobs_requests(name: str) -> list[dict[str, Any]]:
    """What was asked to launch under that name, the newest first."""
    found = [r for r in sky.api_status(all_status=True) if r.name == "sky.jobs.launch"]
    mine = [r for r in found if json.loads(r.request_body or "{}").get("name") == name]
    mine.sort(key=lambda r: -r.created_at)
    return [{"id": r.request_id, "status": r.status} for r in mine]


def jobs_queue(name: str) -> dict[str, Any] | None:
    """The managed job of that name, the newest where there are several; its times are Unix's."""
    fields = ["job_id", "job_name", "task_name", "status", "schedule_state", "recovery_count"]
    fields += ["submitted_at", "start_at", "end_at", "failure_reason", "details"]
    found, *_ = sky.get(sky.jobs.queue_v2(refresh=False, name_match=name, fields=fields))
    mine = [job for job in found if job["job_name"] == name]
    if not mine:
        return None
    job = max(mine, key=lambda job: job["job_id"])
    task = job["task_name"] or name
    return {
        "id": job["job_id"],
        "status": job["status"].value,
        "over": job["status"].is_terminal(),
        "cluster": generate_managed_job_cluster_name(task, job["job_id"]),
        "recoveries": job["recovery_count"] or 0,
        "ended": job["end_at"],
        "said": job["failure_reason"] or job["details"],
    }


def jobs_cancel(id: int) -> None:
    """Ask its controller to end the job and its machine; does not wait for that."""
    sky.get(sky.jobs.cancel(job_ids=[id]))


def machine(cluster: str) -> Any:
    record = known(cluster)
    if record is None or record["handle"] is None:
        raise sky.exceptions.ClusterDoesNotExist(f"there is no cluster {cluster}")
    return record["handle"].get_command_runners()[0]


def known(cluster: str, **more: Any) -> Any:
    """SkyPilot's record of a cluster, or None; of a managed job's too, which it hides from all who
    do not debug (get_clusters of sky/backends/backend_utils.py, 0.14.1)."""
    os.environ["SKYPILOT_DEBUG"] = "1"  # travels with the request
    try:
        request = sky.status([cluster], **more)
    finally:
        del os.environ["SKYPILOT_DEBUG"]
    found = sky.get(request)
    return found[0] if found else None


def on_machine(cluster: str, command: str) -> tuple[int, str]:
    runner = machine(cluster)
    code, out, err = runner.run(
        command, require_outputs=True, stream_logs=False, separate_stderr=True
    )
    return code, out if code == 0 else out + err


ON_CLUSTERS = (launch, requests, outcome, abort, status, read, run, pull, stay, down, cost)
ON_MANAGED_JOBS = (controller, jobs_launch, jobs_requests, jobs_queue, jobs_cancel)
CALLS: dict[str, Callable[..., Any]] = {
    call.__name__: call for call in (*ON_CLUSTERS, *ON_MANAGED_JOBS)
}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # SkyPilot talks; nobody but us writes answers
    for line in sys.stdin:
        question = json.loads(line)
        try:
            said = {"answer": CALLS[question.pop("call")](**question)}
        except Exception as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            said = {"error": {"kinds": kinds, "message": str(error)}}
        answers.write(json.dumps(said) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
