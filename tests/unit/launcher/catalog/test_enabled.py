import pytest

from launcher import paths
from launcher.catalog.enabled import Check, how_to_enable, keep, last_check, marked
from launcher.catalog.providers import PROVIDERS, TO_ENABLE
from tests.unit.launcher.plans import cloud

CHECK = Check(
    checked_at="2026-11-20T10:00:00+00:00",
    skypilot="0.14.1",
    enabled=("runpod",),
    disabled={"aws": "no credentials", "slurm": "no ~/.slurm/config"},
)


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_nobody_was_asked_yet():
    assert last_check() is None
    (offer,) = marked([cloud("T4", 0.5, "aws")], None)
    assert offer.enabled is None


def test_an_answer_is_kept_with_its_date():
    keep(CHECK)
    assert last_check() == CHECK


def test_an_answer_of_another_form_is_none():
    keep(CHECK)
    (paths.catalog_folder() / "enabled.json").write_text('{"enabled": 3}')
    assert last_check() is None


def test_enabled_disabled_and_never_asked_are_three_things():
    offers = marked([cloud("T4", 0.5, name) for name in ("runpod", "aws", "gcp")], CHECK)
    assert [o.enabled for o in offers] == [True, False, None]
    assert [o.enabled_as_of for o in offers] == ["2026-11-20", "2026-11-20", ""]


def test_what_to_do_names_those_with_prices_first():
    assert [name for name, _ in how_to_enable(CHECK)] == ["aws", "slurm"]


def test_each_provider_says_how_it_is_enabled():
    assert set(TO_ENABLE) == set(PROVIDERS)
