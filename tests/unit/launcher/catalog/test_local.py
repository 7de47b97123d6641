from launcher.catalog.local import survey
from launcher.types import GIB


def test_the_cpu_is_always_offered_for_nothing():
    offer = survey("2026-11-21").offers[-1]
    assert (offer.provider, offer.instance, offer.executor) == ("local", "cpu", "process")
    assert offer.microusd_per_hour == 0
    assert offer.as_of == "2026-11-21"
    assert offer.device.kind == "cpu"
    assert offer.device.cores >= 1
    assert GIB // 16 < offer.device.usable_bytes <= offer.device.total_bytes
