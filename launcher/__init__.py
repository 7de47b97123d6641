"""Decides and acts: recipes, estimates, catalog, planner, executors, ledger, command."""

__version__ = "0.1.0"
