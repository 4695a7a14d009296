"""Configurations to shards and trials, and what they will cost."""
