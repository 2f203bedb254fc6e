"""Tables of text out of what people keep them in: csv, tsv, jsonl, parquet, a folder of splits, the Hub."""
