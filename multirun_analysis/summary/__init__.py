"""What trials say together: pivots, coverage, effects, comparisons."""
