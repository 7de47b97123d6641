"""`python -m tests.integration.containers.submit ENGINE GPU <spec.json`: submit it for that GPU of
NVML's, print its handle; else the error, and its exit code."""

import sys

import msgspec

from jobs.spec import ResolvedSpec
from launcher.catalog.local import survey
from launcher.errors import LaunchError
from launcher.executors import executor
from launcher.executors.base import Order


def main(engine: str, gpu: str) -> int:
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=ResolvedSpec)
    spec = msgspec.structs.replace(spec, run_id="gpu", device="cuda", deadline=None)
    offer = next(o for o in survey("2026-11-22").offers if o.instance == f"gpu{gpu}")
    runner = executor(engine)
    handle = runner.handle(spec.run_id, 1)
    try:
        runner.submit(handle, Order(spec=spec, offer=offer, task=None, up_by=None), print)
    except LaunchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(handle)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
