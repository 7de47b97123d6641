"""What the README shows of the command is what the command prints."""

from pathlib import Path

from click.testing import CliRunner

from launcher.cli import launch

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def test_help_is_the_readmes() -> None:
    shown = CliRunner().invoke(launch, ["--help"], terminal_width=100, max_content_width=100)
    assert shown.exit_code == 0
    assert shown.output.strip() in README


def test_each_command_is_told_of_whole_in_80_columns() -> None:
    shown = CliRunner().invoke(launch, ["--help"], terminal_width=80, max_content_width=80)
    _, _, told = shown.output.partition("Commands:\n")
    assert told
    assert "..." not in told
