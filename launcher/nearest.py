"""What a person may have meant by a name that is not known."""

from collections.abc import Iterable
from itertools import takewhile

# Below it, names that have nothing to do with each other are called near: logs to bogus.
_ALIKE = 0.7
# As Winkler has it: what begins alike is nearer, a tenth of the rest for each of four characters.
_BEGINNING, _BONUS = 4, 0.1


def nearest(name: str, known: Iterable[str], most: int, alike: float = _ALIKE) -> list[str]:
    """Those of the `known` names that are spelt most like this one, whatever the case, the nearest
    first; none where none is near."""
    import difflib  # 10 ms, and only on the way to an error

    asked = name.lower()
    folded = {one.lower(): one for one in known}

    def likeness(one: str) -> float:
        same = difflib.SequenceMatcher(None, one, asked).ratio()
        pairs = zip(one[:_BEGINNING], asked, strict=False)
        begins = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        return same + begins * _BONUS * (1 - same)

    near = {one: how for one in folded if (how := likeness(one)) >= alike}
    return [folded[one] for one in sorted(near, key=lambda one: -near[one])[:most]]
