"""Stage 2: a checkpoint becomes a folder that goes to production, and is proven to answer as the checkpoint does."""
