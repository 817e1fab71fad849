"""Benchmark LLMs for question answering over papers: accuracy, citations, latency and energy, per model, precision and machine."""
__version__ = "0.2.0"
