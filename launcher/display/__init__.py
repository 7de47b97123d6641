"""Text for people. Every function returns a string."""
