"""What a sweep looks like in MLflow: names, content, opening a store, the single writer."""
