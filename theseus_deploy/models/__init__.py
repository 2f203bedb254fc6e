"""A model's folder: found by its name, read for what it is, loaded and written."""
