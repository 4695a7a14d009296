"""timm networks: made, given weights, cut at the levels that are read."""
