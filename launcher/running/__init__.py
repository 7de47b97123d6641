"""Runs, from submit to receipt and after."""
