"""Data sets as records: readers, content identity, checks, and the embedded synthetic data set."""

from anomaly_sweep.datasets.check import Problem, check_dataset
from anomaly_sweep.datasets.file_index import (
    INDEX_FILE,
    FileIndex,
    Snapshot,
    contents_digest,
    copied_files,
    manifest_digest,
    masks_digest,
)
from anomaly_sweep.datasets.images import read_image
from anomaly_sweep.datasets.readers import (
    count_images,
    list_categories,
    read_category,
    reader_named,
    reader_names,
)
from anomaly_sweep.datasets.records import Category, ImageRecord, Remark

__all__ = [
    "INDEX_FILE",
    "Category",
    "FileIndex",
    "ImageRecord",
    "Problem",
    "Remark",
    "Snapshot",
    "check_dataset",
    "contents_digest",
    "copied_files",
    "count_images",
    "list_categories",
    "manifest_digest",
    "masks_digest",
    "read_category",
    "read_image",
    "reader_named",
    "reader_names",
]
