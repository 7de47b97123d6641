"""The curve of a run, as each tracker's own library reads it back."""

import json
import os
import subprocess
from pathlib import Path

from jobs import layout
from launcher.executors.environment import tracker_packages
from tests.integration.command import Command

SHORT = (
    *("--set", "train.epochs=0.2", "--set", "eval.generate=false"),
    *("--set", "eval.compare_base=false", "--set", "gates=[{metric: loss, max: 100}]"),
)

# Each prints [[step, loss], …] from the folder in sys.argv[1].
READ = {
    "tensorboard": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(folder)
events.Reload()
curve = [(e.step, e.value) for e in events.Scalars("train/loss")]
""",
    "mlflow": """
import os
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
from pathlib import Path
from mlflow import MlflowClient
client = MlflowClient((Path(folder) / "mlruns").as_uri())
(experiment,) = (e for e in client.search_experiments() if e.name != "Default")
(run,) = client.search_runs([experiment.experiment_id])
assert run.info.status == "FINISHED", run.info.status
curve = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")]
""",
    # its file is a LevelDB log (blocks of 32 KiB; crc, length, kind) behind a header of 7 bytes
    "wandb": """
from pathlib import Path
from wandb.proto.wandb_internal_pb2 import Record
(file,) = Path(folder).glob("wandb/offline-run-*/*.wandb")
data, at, whole, curve = file.read_bytes(), 7, b"", []
while at + 7 <= len(data):
    left = 32768 - at % 32768
    if left < 7:
        at += left
        continue
    length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
    whole += data[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):  # whole, or the last part
        record, whole = Record.FromString(whole), b""
        items = record.history.item
        said = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
        if "train/loss" in said:
            curve.append((said["train/global_step"], said["train/loss"]))
""",
    "trackio": """
import os
os.environ["TRACKIO_DIR"] = folder
from trackio.sqlite_storage import SQLiteStorage
(project,) = SQLiteStorage.get_projects()
(run,) = SQLiteStorage.get_runs(project)
logs = SQLiteStorage.get_logs(project, run)
curve = [(r["train/global_step"], r["train/loss"]) for r in logs if "train/loss" in r]
""",
}


def train(launch: Command, tracker: str, **environment: str) -> tuple[Path, dict]:
    """A short run of the sample: its folder and its result."""
    os.environ.update(environment)  # the command's is the test's own
    try:
        done = launch("--track", tracker, *SHORT, "--json", timeout=1200)
    finally:
        for name in environment:
            del os.environ[name]
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return Path(answer["folder"]), answer["result"]


def curve(home: Path) -> list[tuple[int, float]]:
    """Of metrics.jsonl."""
    records = map(json.loads, (home / layout.METRICS).read_text().splitlines())
    return [(r["step"], r["loss"]) for r in records if r["event"] == "step"]


def read_back(tracker: str, home: Path, python: str) -> list[tuple[int, float]]:
    packages = tracker_packages(tracker, Path(python), print)  # type: ignore[arg-type]
    code = f"import json, sys\nfolder = sys.argv[1]\n{READ[tracker]}\nprint(json.dumps(curve))"
    done = subprocess.run(
        [python, "-c", code, str(home / layout.TRACKING)],
        env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [(int(step), loss) for step, loss in json.loads(done.stdout.splitlines()[-1])]
