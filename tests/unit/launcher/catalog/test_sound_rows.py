"""No rule may drop or change a sound row, whatever else stands in the file."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as some

from launcher.catalog import skypilot
from launcher.catalog.gpus import GPUS, find, gpu
from launcher.catalog.priced import microusd, offer
from launcher.catalog.providers import PROVIDERS
from launcher.catalog.rules import WHOLE_CARDS
from tests.unit.launcher.catalog import real_rows

# Names that mean one card wherever they stand, and what each list makes of its memory.
PLAIN = sorted(
    card.name
    for card in GPUS
    if card.compute_capability is not None and "H100" not in card.name and "V100" not in card.name
)
COLUMNS = ("InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "Price",
           "SpotPrice", "Region", "AvailabilityZone", "GpuInfo", "Arch")  # fmt: skip


def a_file(rows: list[dict[str, object]], order: tuple[str, ...]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, order, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@some.composite
def sound_rows(draw):
    """A row of one of the lists without hosts and GPUs apart: (provider, row)."""
    provider = draw(some.sampled_from(["aws", "azure", "lambda", "nebius", "runpod"]))
    card = gpu(draw(some.sampled_from(PLAIN)))
    count = draw(some.sampled_from(WHOLE_CARDS))
    usd = draw(some.integers(50, 14_000)) * count / 1000
    mib = round(card.total_mib / 1024) if provider == "runpod" else card.total_mib
    listed = f"{{'Gpus': [{{'Name': 'x', 'MemoryInfo': {{'SizeInMiB': {mib}}}}}]}}"
    return provider, {
        "InstanceType": f"i{draw(some.integers(0, 9))}-{card.name}-{count}",
        "AcceleratorName": card.name,
        "AcceleratorCount": draw(some.sampled_from([str(count), f"{count}.0"])),
        "Price": usd,
        "SpotPrice": draw(some.one_of(some.just(""), some.integers(1, 99).map(
            lambda percent: round(usd * percent / 100, 6)))),
        "Region": draw(some.sampled_from(["us-east-1", "eu-west-1", "IS"])),
        "AvailabilityZone": "",
        "GpuInfo": draw(some.sampled_from(["", listed])),
        "Arch": draw(some.sampled_from(["", "x86_64"])),
    }  # fmt: skip


@given(sound_rows(), some.permutations(COLUMNS))
def test_a_sound_row_is_offered_at_its_price_in_any_order_of_columns(sound, order):
    provider, row = sound
    order = tuple(sorted(order, key=lambda name: name == "GpuInfo"))  # quoted, so never first
    prices, dropped = skypilot.read(provider, a_file([row], order))
    assert dropped == ()
    asked = {False: row["Price"], True: row["SpotPrice"]}
    assert {p.spot: p.high_microusd for p in prices} == {
        spot: microusd(usd) for spot, usd in asked.items() if usd != ""
    }
    for price in prices:
        assert price.instance == row["InstanceType"]
        assert price.region == row["Region"]
        assert price.count == float(row["AcceleratorCount"])
        assert price.card == row["AcceleratorName"]
        made = offer(price, as_of="2026-11-20", origin="SkyPilot", source="x")
        assert made.device.usable_bytes == gpu(price.card).usable_bytes
        assert made.microusd_per_hour == price.high_microusd
        assert made.capabilities == PROVIDERS[provider].capabilities


@given(sound_rows(), some.randoms(use_true_random=False))
def test_traps_beside_it_change_nothing(sound, random):
    """The sound row comes out of a file full of the real traps just as it does alone."""
    provider, row = sound
    real = real_rows.text(provider)
    columns = tuple(real.splitlines()[0].split(","))
    lines = [*real.splitlines()[1:], a_file([row], COLUMNS).splitlines()[1]]
    reordered = next(csv.reader([lines[-1]]))
    cells = dict(zip(COLUMNS, reordered, strict=True))
    lines[-1] = a_file([{k: v for k, v in cells.items() if k in columns}], columns).splitlines()[1]
    random.shuffle(lines)
    together, _ = skypilot.read(provider, "\n".join([",".join(columns), *lines]))
    alone, _ = skypilot.read(provider, "\n".join([",".join(columns), a_file(
        [{k: v for k, v in cells.items() if k in columns}], columns).splitlines()[1]]))  # fmt: skip
    assert {p for p in together if p.instance == row["InstanceType"]} == set(alone)


@given(
    host=some.integers(100_000, 12_000_000),
    gpus=some.lists(some.integers(1_000_000, 1_990_000), min_size=1, max_size=6),
    spot=some.one_of(some.none(), some.integers(10_000, 500_000)),
)
def test_gcps_sums_are_exact_whatever_the_region(host, gpus, spot):
    """Prices of one GPU that differ by less than two times between regions."""
    listed = "" if spot is None else spot / 1e6
    lines = [
        "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,"
        "AvailabilityZone,Price,SpotPrice"
    ]
    for i, usd in enumerate(gpus):
        lines.append(f"a2-highgpu-1g,12.0,85.0,,,,r{i},r{i}-a,{host / 1e6},{listed}")
        lines.append(f",,,A100,1,{{'SizeInMiB': 40960}},r{i},r{i}-a,{usd / 1e6},{listed}")
    prices, dropped = skypilot.read("gcp", "\n".join(lines))
    assert dropped == ()
    regions = {r: p for p in prices if not p.spot for r in p.regions or (p.region,)}
    for i, usd in enumerate(gpus):
        assert regions[f"r{i}"].high_microusd == host + usd
    assert {p.high_microusd for p in prices if p.spot} == ({2 * spot} if spot else set())


@given(card=some.sampled_from(["RTX 4090", "RTX 3060 Ti", "RTX 4080S", "A100 SXM4", "Tesla T4"]),
       count=some.integers(1, 16), cents=some.integers(5, 4000))  # fmt: skip
def test_vast_rows_whose_memory_is_the_sum_of_all_cards(card, count, cents):
    meant = {"RTX 4080S": "RTX4080SUPER", "A100 SXM4": "A100-40GB", "Tesla T4": "T4"}
    known = gpu(meant.get(card, card))
    instance = f"{count}x-{card.replace(' ', '_')}-32-65536"
    text = (
        "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region,GpuInfo\n"
        f'{instance},whatever,{count},{cents / 100:.2f},,"Texas, US, NA",'
        f"\"{{'MemoryInfo': {{'SizeInMiB': {known.total_mib * count}}}}}\"\n"
    )
    (price,), dropped = skypilot.read("vast", text)
    assert dropped == ()
    assert (price.card, price.count) == (known.name, count)
    assert price.high_microusd == cents * 10_000


@given(some.sampled_from(real_rows.PROVIDERS))
def test_memory_is_the_tables_and_never_the_lists(provider):
    for price in real_rows.prices(provider):
        made = offer(price, as_of="2026-11-20", origin="SkyPilot", source="x")
        card = find(made.device.name)
        assert card is not None
        assert made.device.usable_bytes == card.usable_bytes


@given(some.text(alphabet="ab,\".\n01{}'-", max_size=200), some.sampled_from(sorted(PROVIDERS)))
def test_no_file_breaks_the_reader(garbage, provider):
    header = ",".join(COLUMNS)
    for text in (garbage, f"{header}\n{garbage}"):
        prices, _ = skypilot.read(provider, text)
        assert all(price.high_microusd > 0 for price in prices)
