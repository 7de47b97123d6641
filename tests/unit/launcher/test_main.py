"""The console script: with --json there is one object on stdout, whatever happened."""

import json
import sys

import click
import pytest

from launcher import cli
from launcher.checking import hub_access
from launcher.checking.checks import Check
from launcher.commands.options import JSON_FLAG
from launcher.commands.output import write_json
from launcher.errors import FOLDER_IS_GONE, NothingFits


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["launch", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("status", "nothere"), 2, "no run nothere"),
        (("recipe.yaml", "--dry-run"), 2, "lorra: unknown key"),
        (("runs", "--bogus"), 2, "No such option"),
        (("bogus",), 2, "no command and no recipe is called bogus"),
    ],
)
def test_an_error_is_an_object_too(
    tmp_path, monkeypatch, capsys, arguments, exit_code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "recipe.yaml").write_text("lorra: 8\n")
    assert run(monkeypatch, *arguments, "--json") == exit_code
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert answer["exit"] == exit_code
    assert said in answer["error"]
    assert shown.err == f"error: {answer['error']}\n"
    assert run(monkeypatch, *arguments) == exit_code
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--hub", "noslash"), "--hub noslash is no ORG/NAME"),
        (("--hub", "a/b/c"), "--hub a/b/c is no ORG/NAME"),
        (("--python", "/nope"), "--python /nope: no such interpreter"),
    ],
)
@pytest.mark.parametrize("plans", [("--dry-run",), ()])
def test_what_a_launch_would_refuse_is_refused_before_a_plan(
    tmp_path, monkeypatch, capsys, asked, said: str, plans
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *asked, *plans) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("plans", [("--dry-run",), ()])
def test_so_is_a_licence_that_the_hub_does_not_know(tmp_path, monkeypatch, capsys, plans) -> None:
    def licence(name: str) -> Check:
        return Check(name="licence", state="failed", found=f"the Hub knows no such {name}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub_access, "licence", licence)
    assert run(monkeypatch, "--hub", "me/mine", "--license", "nope", *plans) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "the Hub knows no such nope" in shown.err


@pytest.mark.usefixtures("apart")
def test_a_folder_that_was_removed_is_no_fault_of_the_program(
    tmp_path, monkeypatch, capsys
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(monkeypatch, "--dry-run") == 2
    assert capsys.readouterr().err == f"error: {FOLDER_IS_GONE}\n"


def test_a_flag_that_is_near_to_none_gets_none(monkeypatch, capsys) -> None:
    run(monkeypatch, "--bogus")
    assert "--gpu" not in capsys.readouterr().err
    run(monkeypatch, "--max-costs", "1")
    assert "--max-cost" in capsys.readouterr().err


def test_an_answer_that_was_given_stays_the_only_one(monkeypatch, capsys) -> None:
    @click.command()
    @JSON_FLAG
    def half(as_json: bool) -> None:
        write_json({"plan": 1})
        raise NothingFits("nothing fits")

    monkeypatch.setitem(cli.launch.commands, "half", half)
    assert run(monkeypatch, "half", "--json") == 3
    assert json.loads(capsys.readouterr().out) == {"plan": 1}


def test_a_stop_and_a_fault_are_objects(monkeypatch, capsys) -> None:
    def raising(error: BaseException) -> None:
        def runs(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(cli.launch.commands["runs"], "callback", runs)

    raising(KeyboardInterrupt())
    assert run(monkeypatch, "runs", "--json") == 130
    assert json.loads(capsys.readouterr().out)["exit"] == 130
    raising(ValueError("a name with \udcff"))
    assert run(monkeypatch, "runs", "--json") == 1
    assert "ValueError" in json.loads(capsys.readouterr().out)["error"]
