"""What the user hands in, read and judged: YAML, rows of data, earlier adapters."""
