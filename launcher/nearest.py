"""What a person may have meant by a name that is not known."""

from collections.abc import Iterable

# Below it, names of one kind that have nothing to do with each other are called near.
_ALIKE = 0.5


def nearest(name: str, known: Iterable[str], most: int, alike: float = _ALIKE) -> list[str]:
    """Those of the `known` names that are spelt most like this one, whatever the case, the nearest
    first; none where none is near."""
    import difflib  # 10 ms, and only on the way to an error

    folded = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), list(folded), n=most, cutoff=alike)
    return [folded[key] for key in near]
