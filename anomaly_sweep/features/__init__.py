"""From image files to features: images, augmentation, networks, pooling, the cache."""
