"""The longest batch is tried before anything is paid for, and leaves no trace."""

import json

import pytest

from jobs import layout
from jobs.exit_codes import EXIT_CODES
from jobs.progress import read_records
from jobs.spec import PhaseRecord
from tests.jobs.short_job import Forked, curve, result, write_job

pytestmark = pytest.mark.filterwarnings("default")

WITHOUT = """
from jobs import longest
longest.run = lambda *_: None
"""
# What stands while each micro-batch is at work: gradients, the optimizer's state.
STANDING = """
from jobs import trainer
own = trainer.SftTrainer.training_step
def training_step(self, model, *arguments):
    gradients = any(p.grad is not None for p in model.parameters())
    print("beside", gradients, bool(self.optimizer.state), flush=True)
    return own(self, model, *arguments)
trainer.SftTrainer.training_step = training_step
"""
# What the system still grants when the longest batch is tried is too little for it.
NARROW = """
import resource
from jobs import longest
tried = longest.run
def run(*arguments):
    pages = int(open("/proc/self/statm").read().split()[0])
    grant = pages * resource.getpagesize() + 150 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (grant, grant))
    tried(*arguments)
longest.run = run
"""


def finish(folder, before):
    code = Forked(folder, before).wait(timeout=600)
    return code, result(folder), (folder / layout.LOG).read_text()


def with_a_long_row(folder, **changes):
    write_job(folder, train_rows=16, **changes)
    answer = json.dumps({"answer": "nothing " * 500, "citation": None})
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]}
    with (folder / "train.jsonl").open("a") as rows:
        rows.write(json.dumps(row) + "\n")
    return folder


PLAIN = {"epochs": 1, "learning_rate": 4e-3, "seq_len": 2048, "effective_batch": 4,
         "micro_batch": 2, "packing": False, "activation_checkpointing": False}  # fmt: skip
QUICK = {"generate": False, "compare_base": False}


@pytest.mark.parametrize("packing", [False, True])
def test_it_leaves_no_trace_in_the_training(tmp_path, packing):
    train = PLAIN | {"packing": packing, "seq_len": 512}
    tried = with_a_long_row(tmp_path / "tried", train=train, eval=QUICK)
    plain = with_a_long_row(tmp_path / "plain", train=train, eval=QUICK)
    code, found, log = finish(tried, STANDING)
    assert code == 0, log
    standing = [line for line in log.partition("longest batch: ")[0].splitlines()
                if line.startswith("beside ")]  # fmt: skip
    assert standing == ["beside False False", "beside True False",
                        "beside False True", "beside True True"]  # fmt: skip
    assert finish(plain, WITHOUT)[0] == 0
    assert curve(tried) == curve(plain)
    assert "longest batch: 2 rows of up to 512 tokens: peak resident set" in log
    assert found.seconds_by_phase["longest_batch"] > 0
    assert not list(tried.glob(layout.WEIGHTS_ASIDE + "*"))


def test_what_does_not_fit_fails_before_anything_else(tmp_path):
    folder = with_a_long_row(tmp_path / "narrow", train=PLAIN, eval={"max_new_tokens": 8})
    code, found, log = finish(folder, NARROW)
    assert (code, found.failure.reason) == (EXIT_CODES["OUT_OF_MEMORY"], "OUT_OF_MEMORY"), log
    assert "the longest batch does not fit: 2 rows of up to 1," in found.failure.message
    assert "lower train.micro_batch or train.seq_len" in found.failure.message
    phases = [r.phase for r in read_records(folder / layout.METRICS) if isinstance(r, PhaseRecord)]
    assert phases[-1] == "longest_batch"
    assert found.metrics == {}


def test_the_longest_question_is_answered_where_the_base_is_not_asked(tmp_path):
    only_answers = {"compare_base": False, "max_new_tokens": 8}
    folder = with_a_long_row(tmp_path / "asked", train=PLAIN, eval=only_answers)
    unpatched = (
        "from jobs import evaluate, progress\n"
        "said, own = [], evaluate._answer\n"
        "def answer(*a):\n    said.append(a); print('answers', len(said), flush=True)\n"
        "    return own(*a)\n"
        "evaluate._answer = answer\n"
    )
    code, _, log = finish(folder, unpatched)
    assert code == 0, log
    lines = log.splitlines()
    assert lines.index("answers 1") < next(i for i, s in enumerate(lines) if s.startswith("step "))
