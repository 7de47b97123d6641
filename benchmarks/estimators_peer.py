"""fitcheck-llm's estimates for estimators.py, in an interpreter that has it: JSON in, GiB out."""

import json
import sys

from fitcheck import TrainingConfig, estimate, get_gpu
from fitcheck.config_parser import ModelConfig

CARDS = {
    "A100 80GB": "a100-80",
    "A100-SXM4-80GB": "a100-80",
    "A100 40GB": "a100-40",
    "RTX 3090 (280W)": "3090",
    "RTX 4090": "4090",
    "T4 16GB": "t4",
}

found = []
for case in json.load(sys.stdin):
    training = TrainingConfig(**case["training"])
    report = estimate(
        ModelConfig(**case["model"]), training, get_gpu(CARDS.get(case["gpu"], case["gpu"].lower()))
    )
    found.append(report.total_mib / 1024)
print(json.dumps(found))
