"""The embedded synthetic data set: fifteen products, drawn."""

from anomaly_sweep.datasets.synthetic.catalogue import PRODUCTS
from anomaly_sweep.datasets.synthetic.generate import GENERATOR_VERSION, generate

CATEGORIES: tuple[str, ...] = tuple(product.name for product in PRODUCTS)

__all__ = ["CATEGORIES", "GENERATOR_VERSION", "generate"]
