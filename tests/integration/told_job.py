"""A job that trains nothing and ends at once as it is told, in the place of the interpreter of the
training environment. Everything around the job is real.

TOLD names a JSON file: {"qlora": 0.5, "qlora 32": "OUT_OF_MEMORY", "lora": ...}, by strategy, with
the rank where one is meant, or with `x` and the rows at once. A number is what the gates' metric
comes to; a word is the reason of a failure; a list has one of these for each start of the run.
TOLD_SECONDS is how long it takes; a file `held` beside the file that TOLD names holds it at its
work until it is removed.
"""

import json
import os
import sys
import time
from pathlib import Path

KEYS = ("{strategy} x{rows}", "{strategy} {rank}", "{strategy}")


def main(code: Path, spec_file: Path) -> None:
    sys.path.insert(0, str(code))
    import msgspec

    from jobs import layout
    from jobs.spec import Failure, GateResult, ResolvedSpec, Result, encode

    Path(layout.PID).write_text(str(os.getpid()))
    spec = msgspec.json.decode(spec_file.read_bytes(), type=ResolvedSpec)
    orders = Path(os.environ["TOLD"])
    told = json.loads(orders.read_text())
    named = {"strategy": spec.strategy, "rank": spec.lora.r, "rows": spec.train.micro_batch}
    outcome = next(told[k] for k in (key.format(**named) for key in KEYS) if k in told)
    if isinstance(outcome, list):
        outcome = outcome[_starts() - 1]
    time.sleep(float(os.environ.get("TOLD_SECONDS", "0")))
    while orders.with_name("held").exists():
        time.sleep(0.05)
    if isinstance(outcome, str):
        failure = Failure(reason=outcome, message=f"told to end with {outcome}")
        Path(layout.RESULT).write_bytes(
            encode(Result(run_id=spec.run_id, status="error", failure=failure))
        )
        return
    gates = tuple(
        GateResult(metric=g.metric, min=g.min, max=None, value=outcome,
                   passed=outcome is not None and outcome >= (g.min or 0))
        for g in spec.gates
    )  # fmt: skip
    Path(layout.ADAPTER).mkdir(exist_ok=True)
    (Path(layout.ADAPTER) / "adapter_config.json").write_text("{}")
    result = Result(run_id=spec.run_id, status="success", adapter=layout.ADAPTER, gates=gates)
    Path(layout.RESULT).write_bytes(encode(result))


def _starts() -> int:
    with open("starts", "a+") as file:
        file.write("x")
        file.seek(0)
        return len(file.read())


if __name__ == "__main__":  # -P -m jobs.train spec.json
    main(Path(os.environ["PYTHONPATH"]), Path(sys.argv[-1]))
