"""How many examples hypothesis draws: few at every change, `--hypothesis-profile thorough` many."""

from hypothesis import settings

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")
