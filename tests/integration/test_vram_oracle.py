"""The simulation behind docs/measured/oracle.csv, live on a few of its cases."""

import statistics

from benchmarks.vram_oracle import CASES, TERMS, modelled, residuals, rows, simulate, timeline_of

# One of each kind: LoRA, packed QLoRA with checkpoints, full, the plain loss, a student, Gemma.
LIVE = [
    case
    for case in CASES
    if case.layers == 4
    and (case.strategy, case.rows, case.length, case.loss, case.outputs)
    in {
        ("lora", 4, 512, "chunked", 0),
        ("qlora", 1, 4096, "chunked", 0),
        ("full", 2, 512, "chunked", 0),
        ("lora", 4, 2048, "plain", 0),
        ("qlora", 4, 512, "chunked", 8),
        ("qlora", 2, 1024, "chunked", 0),
    }
]
COMMITTED = dict(rows())


def test_the_job_s_step_needs_what_the_model_says(train_python: str) -> None:
    off = []
    for case, found in zip(LIVE, simulate(train_python, LIVE), strict=True):
        # The libraries and our job still do what the committed file says.
        assert {t: found[t] for t in TERMS} == COMMITTED[case], case.name
        off.append(abs(residuals(found, modelled(case, timeline_of(case)))["peak"]))
    assert len(off) >= 5
    assert statistics.median(off) <= 0.02
    assert max(off) <= 0.05
