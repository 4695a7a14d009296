"""Sweeps: planned, run, recorded, searched."""
