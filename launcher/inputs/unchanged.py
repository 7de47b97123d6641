"""Whether a job that is planned again reads the same files as before."""

from launcher.errors import BadInput
from launcher.types import Plan


def require_same_files(first: Plan, made: Plan, changed: tuple[str, ...]) -> None:
    """Raises BadInput, naming the file, where one has another digest than when `first` was
    planned. Old rows are not what a rung is judged by: it may draw from others, where its
    `changed` keys of the recipe say so."""
    then, now = _files(first), _files(made)
    for key, (path, digest) in then.items():
        if digest is None or now[key][1] == digest or (key == "data.replay" and key in changed):
            continue
        raise BadInput(
            f"{path} ({key}) has changed since {first.run_id} was planned on it: what is trained "
            "now would not be held against the same\nlaunch the recipe anew"
        )


def _files(plan: Plan) -> dict[str, tuple[str | None, str | None]]:
    """Path and digest, by the recipe's key."""
    data, files, judged = plan.data, plan.job.data, plan.job.eval
    return {
        "data.train": (files.train, data.sha256),
        "data.validation": (files.validation, data.validation_sha256),
        "data.test": (files.test, data.test_sha256),
        "data.replay": (files.replay, data.replay_sha256),
        "eval.golden": (judged.golden, data.golden_sha256),
        "eval.schema": (judged.schema, data.schema_sha256),
        **{f"eval.metrics {path}": (path, sha) for path, sha in data.metrics_sha256.items()},
    }
