"""What can be had and what it can do: GPU facts, dated prices, and this machine."""
