"""What a rented machine takes around the work: until it is ready, and until it is gone. Seconds."""

from math import expm1

from launcher.estimate.spans import Span
from launcher.types import Offer, TimeTerm

# What set-up fetches for images/requirements.lock: torch 2.13.0 and its CUDA packages are wheels of
# 2.73 GB (pip's own figures for Linux on x86_64, August 2026); 0.3 GB for the rest are assumed.
PACKAGES_BYTES = 3.0e9
# To unpack and check them. Assumption; 1.6 GB without CUDA took 2-3 minutes on 2 cores, the network
# included (November 2026).
INSTALL_SECONDS = Span(60.0, 120.0, 300.0)
# An image that has them, compressed: little more than the wheels, or CUDA's own libraries beside
# them and a distribution. Assumption, until its registry is asked.
IMAGE_BYTES = Span(3.2e9, 4.5e9, 8e9)
# Set-up where nothing is to be installed: SkyPilot's own, and a look. Assumption.
FOUND_SECONDS = Span(2.0, 10.0, 30.0)
# A job launched on a machine that is up: 57 and 133 s until it had begun, on Slurm on busy cores
# (tests/soak/test_portfolio.py, November 2026). High: assumption.
HAND_OVER_SECONDS = Span(20.0, 60.0, 240.0)
UPLOAD_SHARE = 0.25  # of the download rate. Assumption

# The end of a rented machine. The watchdog looks every 5 s, gives the job 150 s to finish its step
# and save, and what its script does last 120 s more (jobs/watchdog.py); SkyPilot's autodown looks
# every 60 s (0.14.1, sky/skylet); `sky down` took 40 s on Slurm (November 2026, 2 cores), two
# minutes at most are assumed elsewhere.
JOB_GRACE_SECONDS = 275.0
AUTODOWN_POLL_SECONDS = 60.0
DOWN_SECONDS = Span(20.0, 60.0, 120.0)
# Interruptions of the work in one go, beyond which the figure says no more: 13,000 times the work.
_HOPELESS = 12.0


def network(offer: Offer) -> Span:
    """Bytes a second that the machine gets from the network."""
    return Span(*(max(rate, 0.01) * 1e6 for rate in offer.download_mb_s))


def until_ready(offer: Offer) -> tuple[TimeTerm, ...]:
    """From the request until the job may begin.

    An image that was asked for is pulled beside what provisioning takes. Nobody has looked into it:
    at worst it has the environment of another lock, and set-up installs.
    """
    if offer.held:
        taken = HAND_OVER_SECONDS.term("provision", "on the machine of the job before it")
        return taken, FOUND_SECONDS.term("set up", "that job's environment is there")
    provision = Span(*offer.provision_seconds)
    provisioned = provision.term("provision", f"{offer.provider} {offer.instance}")
    size = Span(PACKAGES_BYTES, PACKAGES_BYTES, PACKAGES_BYTES)
    install = size.over(network(offer)).plus(INSTALL_SECONDS)
    if not offer.image:
        why = f"{PACKAGES_BYTES / 1e9:.1f} GB of packages installed"
        return provisioned, install.term("set up", why)
    found = Span(FOUND_SECONDS.low, FOUND_SECONDS.expected, install.high)
    return (
        provisioned,
        _pull(offer),
        found.term("set up", "the image has the packages; high: not those of this lock"),
    )


def _pull(offer: Offer) -> TimeTerm:
    if offer.image_bytes:
        size = Span(offer.image_bytes, offer.image_bytes, offer.image_bytes)
        why = f"{offer.image_bytes / 1e9:.2f} GB of {offer.image}, as its registry has it"
    else:
        size = IMAGE_BYTES
        low, high = f"{size.low / 1e9:.1f}", f"{size.high / 1e9:.1f}"
        why = f"size of {offer.image} not known, {low}-{high} GB assumed; launch images check"
    return size.over(network(offer)).term("image pull", why)


def until_gone(offer: Offer, upload_bytes: int, collect_minutes: int) -> tuple[TimeTerm, ...]:
    """From the job's end until nothing is billed any more."""
    size = Span(upload_bytes, upload_bytes, upload_bytes)
    upload = size.over(network(offer) * UPLOAD_SHARE)
    seconds, why = teardown(collect_minutes)
    return (
        upload.term("upload", f"{upload_bytes / 1e6:.0f} MB of results"),
        seconds.term("teardown", why),
    )


def teardown(collect_minutes: int) -> tuple[Span, str]:
    """Seconds from the job's end, or from its deadline, until its machine is gone.

    At best the launcher is there and ends it at once; at worst the job takes all its grace, nobody
    comes, and the machine waits its minutes and then ends itself.
    """
    alone = JOB_GRACE_SECONDS + 60 * collect_minutes + AUTODOWN_POLL_SECONDS + DOWN_SECONDS.high
    why = f"fetched and ended; high: {collect_minutes} min unfetched, then by itself"
    return Span(DOWN_SECONDS.low, DOWN_SECONDS.expected, alone), why


def interruptions(per_hour: tuple[float, float, float], work: tuple[TimeTerm, ...]) -> TimeTerm:
    """Work that is lost and done again when a machine may be taken at any time.

    With interruptions at a constant rate r and nothing that outlives the machine, T hours of work
    take (e^(r T) - 1) / r on average (Ross, Introduction to Probability Models, 12th edition,
    section 5.2: the exponential has no memory).
    """
    low, expected, high = per_hour
    low_hours = sum(t.low_hours for t in work)
    expected_hours = sum(t.expected_hours for t in work)
    high_hours = sum(t.high_hours for t in work)
    return TimeTerm(
        name="interruptions",
        low_hours=low_hours * (_lengthened(low * low_hours) - 1),
        expected_hours=expected_hours * (_lengthened(expected * expected_hours) - 1),
        high_hours=high_hours * (_lengthened(high * high_hours) - 1),
        why=f"{expected:g} an hour ({low:g}-{high:g}), all of it begun again",
    )


def _lengthened(expected: float) -> float:
    """How many times as long work takes that meets so many interruptions in one go."""
    held = min(expected, _HOPELESS)
    return expm1(held) / held if held else 1.0
