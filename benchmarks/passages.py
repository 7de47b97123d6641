"""Real prose with eight measured scores: what an oracle would give, but computed.

The King James Version (public domain) through Debian's `bible` command, a verse a text. Each score
is a share or a mean counted in the text, stretched to 0-10 between the bounds beside it, which are
about the 2nd and 98th percentile of all verses.
    .venv/bin/python -m benchmarks.passages 800 > rows.jsonl
"""

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

EVERY_VERSE = "gen1:1-rev22:21"

WORD = re.compile(r"[A-Za-z']+")
SPEECH = frozenset(
    ["said", "saith", "saying", "spake", "answered", "say", "speak", "cried", "called"]
)
ADDRESS = frozenset(["thou", "thee", "thy", "thine", "ye", "you", "your"])
SELF = frozenset(["i", "me", "my", "mine", "we", "us", "our"])


def share(words: Sequence[str], of: frozenset[str]) -> float:
    return sum(word.lower() in of for word in words) / len(words)


Measure = Callable[[str, list[str]], float]
MEASURES: dict[str, tuple[Measure, float, float]] = {  # with the bounds that become 0 and 10
    "length": (lambda text, words: len(words), 8, 48),
    "long_words": (lambda text, words: sum(map(len, words)) / len(words), 3.3, 5.0),
    "variety": (lambda text, words: len({w.lower() for w in words}) / len(words), 0.55, 1.0),
    "clauses": (lambda text, words: len(re.findall(r"[,;:]", text)) / len(words), 0.0, 0.25),
    "address": (lambda text, words: share(words, ADDRESS), 0.0, 0.25),
    "self": (lambda text, words: share(words, SELF), 0.0, 0.25),
    "speech": (lambda text, words: share(words, SPEECH), 0.0, 0.12),
    "names": (lambda text, words: sum(w[0].isupper() for w in words[1:]) / len(words), 0.0, 0.30),
}
DIMENSIONS = tuple(MEASURES)


def oracle(text: str) -> dict[str, float]:
    """Eight scores, 0 to 10."""
    words = WORD.findall(text)
    found = {}
    for name, (measure, low, high) in MEASURES.items():
        value = 10 * (measure(text, words) - low) / (high - low)
        found[name] = round(min(10.0, max(0.0, value)), 3)
    return found


def verses() -> list[str]:
    """Every verse of six words or more."""
    command = shutil.which("bible")
    if command is None:
        sys.exit(
            "no `bible` command: apt-get install bible-kjv (a 3 MB package of public-domain text)"
        )
    shown = subprocess.run(
        [command, "-f", "-l", "100000", EVERY_VERSE], capture_output=True, text=True, check=True
    )
    texts = (line.partition(" ")[2].strip() for line in shown.stdout.splitlines())
    return [text for text in texts if len(WORD.findall(text)) >= 6]


def rows(count: int, seed: int) -> list[dict[str, object]]:
    """`count` verses drawn by the seed, no text twice, each with its scores."""
    distinct = list(dict.fromkeys(verses()))
    drawn = random.Random(seed).sample(distinct, count)
    return [{"id": i, "text": text, "scores": oracle(text)} for i, text in enumerate(drawn)]


if __name__ == "__main__":
    for row in rows(int(sys.argv[1]), seed=1):
        print(json.dumps(row))
