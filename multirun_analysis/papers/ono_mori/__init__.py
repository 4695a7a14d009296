"""Ono & Mori: tables 2 to 4, augmentation, statements."""
