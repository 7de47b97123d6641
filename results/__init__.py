"""Bringing results home: collect, receipt, report."""
