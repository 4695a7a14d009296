"""Planned work, computed."""
