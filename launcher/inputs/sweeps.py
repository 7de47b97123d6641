"""`--sweep KEY=V1,V2,…`: a run for each value; several sweeps: for each combination."""

import json
from itertools import product

import yaml

from launcher.errors import BadInput
from launcher.inputs.yaml_tree import value_of

MOST = 100  # runs of one portfolio: a slip of the pen is more likely. Assumption


def combinations(sweeps: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The `--set` assignments of each run, in order; one run without any where nothing is swept.

    Values are YAML, so a list may be one: `--sweep lora.target_modules=all-linear,[q_proj]`.
    Raises BadInput.
    """
    keys = [sweep.partition("=")[0].strip() for sweep in sweeps]
    for key in keys:
        if keys.count(key) > 1:
            raise BadInput(f"--sweep {key}=…: it is there twice; give all its values in one")
    return list(product(*map(_assignments, sweeps)))


def _assignments(sweep: str) -> list[str]:
    key, equals, text = sweep.partition("=")
    key = key.strip()
    try:
        values = value_of(f"[{text}]")
    except yaml.YAMLError:
        values = None
    if not equals or not key or not values:
        raise BadInput(f"--sweep {sweep}: expected KEY=V1,V2, as in --sweep lora.r=8,16,32")
    found = [f"{key}={json.dumps(value, ensure_ascii=False)}" for value in values]
    if len(set(found)) < len(found):
        raise BadInput(f"--sweep {sweep}: a value is there twice")
    return found
