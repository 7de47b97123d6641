"""The parts of `python -m jobs.label`: texts, question, scores, journal, admission, asking."""
