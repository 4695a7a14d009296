"""Errors a user can act on. Each message names the file, key or value and says what to do."""

from __future__ import annotations


class AnomalySweepError(Exception):
    """Base of every error that is shown to the user without a stack trace."""


class ConfigError(AnomalySweepError):
    """A configuration value is wrong: the message names the key, the value and what is allowed."""


class DatasetError(AnomalySweepError):
    """A data set or one of its files cannot be used."""


class WeightsError(AnomalySweepError):
    """Backbone weights cannot be had or do not fit."""


class CacheError(AnomalySweepError):
    """A cache entry or the cache folder cannot be used."""


class EstimatorError(AnomalySweepError):
    """An estimator cannot be fitted to, or cannot score, the data it was given."""


class TrackingError(AnomalySweepError):
    """The tracking store cannot be reached or written."""


def shortened(error: Exception, limit: int = 300) -> str:
    """An error of another library as part of a sentence: one line, its type's name where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."


class MissingArtifactError(TrackingError):
    """A run's artifact is not where the tracking store says."""
