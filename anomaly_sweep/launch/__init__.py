"""What Hydra's plugins and its task function call."""
