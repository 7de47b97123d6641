"""What launcher/estimate/processes.py says of DistributedDataParallel, counted on the CPU."""

import subprocess
import sys

COUNT = """
import os, torch
from torch.utils._python_dispatch import TorchDispatchMode
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(),
                                     rank=0, world_size=1)

class Flat(TorchDispatchMode):
    made = []
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.empty.memory_format and found.numel() > 1000:
            self.made.append(found)
        return found

model = torch.nn.Sequential(*(torch.nn.Linear(300, 200, bias=False) for _ in range(3)))
model[0].weight.requires_grad = False
with Flat() as flat:
    torch.nn.parallel.DistributedDataParallel(model)
print(sum(t.untyped_storage().nbytes() for t in flat.made))
"""


def test_buckets_are_as_large_as_the_gradients_of_what_is_trained():
    done = subprocess.run(
        [sys.executable, "-P", "-c", COUNT], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) == 2 * 300 * 200 * 4
