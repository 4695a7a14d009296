"""Entry points: they read arguments and call the rooms below."""
