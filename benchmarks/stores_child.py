"""One transfer through a store, in an environment that has its client: for benchmarks.stores.

python -P -m benchmarks.stores_child put|get|push|fetch URL PATH
"""

import sys
from pathlib import Path

from results.stored_run import fetch, push
from results.stores import open_store


def main(verb: str, url: str, path: Path) -> None:
    above, _, name = url.rpartition("/")
    store = open_store(above)
    if verb == "put":
        store.put(name, path, None)
    elif verb == "get":
        store.get(name, path)
    elif verb == "push":
        push(store, name, path)
    elif verb == "fetch":
        assert fetch(store, name, path) == "complete"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
