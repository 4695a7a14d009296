"""Opening a tracking store that exists, and never making one that does not."""

from __future__ import annotations

from anomaly_sweep.errors import TrackingError
from anomaly_sweep.tracking.reader import Reader
from multirun_analysis.errors import AnalysisError


def connect(tracking_uri: str) -> Reader:
    """Open a tracking store for reading.

    Parameters
    ----------
    tracking_uri
        ``sqlite:///file.db``, ``http://host:port`` or any other URI MLflow knows. A SQLite file has to
        be there already.
    """
    try:
        return Reader.open(tracking_uri)
    except TrackingError as error:
        raise AnalysisError(str(error)) from error


def experiment_ids(reader: Reader, name: str | None = None) -> list[str]:
    """Ids of the experiment of that name, or of all that are not deleted when there is no name."""
    found = reader.experiments()
    if name is None:
        return list(found.values())
    if name not in found:
        available = ", ".join(sorted(found)) or "none"
        raise AnalysisError(f"{reader.uri} has no experiment named {name!r}; it has: {available}")
    return [found[name]]
