"""fp32 -> int8 or fp16, and the receipt of what became of each operator."""
