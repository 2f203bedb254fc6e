"""Stage 1: make a small successor out of a fine-tuned predecessor."""
