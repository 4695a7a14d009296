"""One vector an image, reduced, under an estimator (Ono & Mori)."""
