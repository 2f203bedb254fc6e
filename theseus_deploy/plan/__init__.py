"""Capacity: from the times that a benchmark measured to the smallest fleet that holds an objective, and its cost."""
