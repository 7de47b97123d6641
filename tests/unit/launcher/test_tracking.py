"""What a tracker needs, known before a paid second."""

import pytest
import yaml

from jobs.spec import Tracker
from launcher import paths
from launcher.catalog.providers import LOCAL
from launcher.recipes import Flags, load
from launcher.render import TRACKER_LOCK, task
from launcher.tracking import VARIABLES, check, tracker_lock
from tests.unit.launcher.plans import JOB, TEN, cloud, planned

TRACKERS = sorted(VARIABLES)


def names(lock: str) -> set[str]:
    lines = (paths.packaged("images") / lock).read_text().splitlines()
    pinned = [line.partition("==")[0] for line in lines if "==" in line]
    return {name.lower().replace("_", "-").replace(".", "-") for name in pinned}


@pytest.fixture(autouse=True)
def none_set(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in {name for known in VARIABLES.values() for name in known} | {"HF_TOKEN"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize("tracker", TRACKERS)
def test_its_packages_are_pinned_and_none_is_the_environments_own(tracker: Tracker) -> None:
    """They come before it on the job's path: what stood in both would take its place."""
    own = names(tracker_lock(tracker).name)
    assert own
    assert not own & names("requirements.lock")
    assert own & {tracker, f"{tracker}-skinny"}


@pytest.mark.parametrize(
    ("tracker", "given", "provider", "state", "said"),
    [
        ("tensorboard", {}, "runpod", "ok", "in the run's folder"),
        ("wandb", {}, "runpod", "failed", "no WANDB_API_KEY, which a rented machine needs; set it"),
        ("wandb", {}, LOCAL, "failed", "wandb has no WANDB_API_KEY; set it, or WANDB_MODE=offline"),
        ("wandb", {"WANDB_API_KEY": "k"}, "runpod", "ok", "with WANDB_API_KEY"),
        ("wandb", {"WANDB_MODE": "offline"}, "runpod", "ok", "in the run's folder"),
        ("mlflow", {}, "runpod", "ok", "in the run's folder"),
        ("mlflow", {"MLFLOW_TRACKING_URI": "https://flow.example"}, "runpod", "ok", "not asked"),
        ("mlflow", {"MLFLOW_TRACKING_URI": "http://localhost:5000"}, LOCAL, "ok", "not asked"),
        ("mlflow", {"MLFLOW_TRACKING_URI": "http://localhost:5000"}, "runpod", "failed", "machine"),
        ("mlflow", {"MLFLOW_TRACKING_URI": "/home/me/flow"}, "runpod", "failed", "(a path)"),
        ("trackio", {}, "runpod", "ok", "in the run's folder"),
        ("trackio", {"TRACKIO_SPACE_ID": "me/s"}, "runpod", "failed", "needs HF_TOKEN"),
        ("trackio", {"TRACKIO_SPACE_ID": "me/s", "HF_TOKEN": "t"}, "runpod", "ok", "me/s"),
    ],
)
def test_what_it_lacks_is_said(monkeypatch, tracker, given, provider, state, said) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = check(tracker, provider)
    assert (found.name, found.state) == ("tracker", state)
    assert said in found.line


def test_a_key_of_wandb_login_counts_on_this_machine_alone(monkeypatch, tmp_path) -> None:
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password k\n")
    assert check("wandb", LOCAL).state == "ok"
    assert check("wandb", "runpod").state == "failed"
    monkeypatch.setenv("WANDB_BASE_URL", "https://curves.example")
    assert check("wandb", LOCAL).state == "failed"


def test_flag_and_recipe_set_the_same_key(tmp_path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(yaml.safe_load(paths.sample_recipe().read_text()) | {
        "model": str(paths.sample_recipe().parent.parent / "sample" / "model"),
        "data": str(paths.sample_recipe().parent.parent / "sample" / "train.jsonl"),
        "track": "mlflow"}))  # fmt: skip
    assert load(str(recipe), Flags()).job.track == "mlflow"
    laid = load(str(recipe), Flags(track="wandb"))
    assert laid.job.track == "wandb"
    assert next(s for s in laid.settings if s.key == "track").source == "--track"


def test_the_lock_and_the_secrets_names_travel() -> None:
    import msgspec

    made = planned([cloud("RTX4090", 0.74)], TEN, job=msgspec.structs.replace(JOB, track="wandb"))
    tree = yaml.safe_load(task(made, made.chosen, secrets=("WANDB_API_KEY",)))
    assert tree["file_mounts"][TRACKER_LOCK] == str(tracker_lock("wandb"))
    assert tree["secrets"] == {"WANDB_API_KEY": None}
    assert '"track":"wandb"' in tree["envs"]["LORALIFT_SPEC"]
