"""Compress a fine-tuned BERT with BERT-of-Theseus, export it to ONNX, and prove what it costs and what it keeps."""

__version__ = "0.2.0.dev0"
