"""`launch canary`: a provider proved on the user's own account, with the sample job."""
