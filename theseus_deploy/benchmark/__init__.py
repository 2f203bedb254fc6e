"""Stage 3: measure candidates against a baseline, one process each, and judge them by limits."""
