"""The workflow that we offer says only what the command understands."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from launcher.cli import launch

FILE = Path(__file__).resolve().parents[2] / "docs" / "ci" / "train-gate-publish.yml"
WORKFLOW = yaml.safe_load(FILE.read_text())
STEPS = WORKFLOW["jobs"]["train"]["steps"]
VALUES = {"MAX_COST": "5", "STORE": "s3://bucket/runs", "HUB_REPOSITORY": "me/mine", "RUN": "ci-1"}
LINES = [
    part.strip()
    for step in STEPS
    for line in step.get("run", "").replace("\\\n", " ").splitlines()
    for part in line.split("||")
    if part.strip().startswith("launch ")
]


def arguments(line: str) -> list[str]:
    """Of the command, as the shell gives them."""
    return shlex.split(re.sub(r"\$([A-Z_]+)", lambda match: VALUES[match[1]], line))[1:]


def parsed(line: str) -> click.Context:
    """As the command takes it: a flag it does not know, or a wrong value, raises."""
    words = arguments(line)
    group = launch.make_context("launch", list(words))
    name = words[0] if words[0] in launch.commands else launch.default
    rest = words[1:] if name == words[0] else words
    return launch.commands[name].make_context(name, rest, parent=group)


def test_there_are_lines_to_look_at() -> None:
    words = [line.split()[1] for line in LINES]
    assert words == ["recipe.yaml", "recipe.yaml", "publish", "cancel", "guard"]


@pytest.mark.parametrize("line", LINES)
def test_the_command_takes_each_line(line: str) -> None:
    context = parsed(line)
    assert context.info_name in ("train", "publish", "cancel", "guard")
    if context.info_name == "train":
        assert context.params["recipe"] == ("recipe.yaml",)
        assert context.params["max_cost"] == 5.0


def test_a_line_it_would_not_take_is_seen() -> None:
    with pytest.raises(click.NoSuchOption):
        parsed("launch recipe.yaml --hubb me/mine")
    with pytest.raises(click.UsageError):
        parsed("launch publish")


def test_it_trains_before_it_publishes_and_holds_the_cap() -> None:
    train = parsed(LINES[1]).params
    assert (train["repository"], train["store"], train["run_id"]) == (
        "me/mine",
        "s3://bucket/runs",
        "ci-1",
    )
    assert train["yes"] is True
    assert train["detach"] is False
    assert parsed(LINES[2]).params["force"] is False
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False


def test_secrets_stand_in_no_command() -> None:
    for step in STEPS:
        assert "secrets." not in step.get("run", "")
    used = set(re.findall(r"\$\{\{ vars\.([A-Z_]+) \}\}", FILE.read_text()))
    assert used == {"HUB_REPOSITORY", "STORE", "MAX_COST"}
