"""What runs inside the training environment. Knows nothing of clouds, prices or the launcher."""
