"""Tests; those of a package's folder are in the folder of the same name."""
