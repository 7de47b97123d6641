"""Units of money and memory."""

MICROUSD = 1_000_000


GIB = 1024**3


MIB = 1024**2
