"""A run's report: one page, written as Markdown and as HTML, with pictures and data beside it.

page.py is what both are written from. run_page.py fills it for a run, compare.py for several,
overview.py for all of them; documents.py makes all that stands beside a run.
"""
