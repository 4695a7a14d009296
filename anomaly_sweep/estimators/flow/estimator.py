"""`CouplingFlow`: one flow behind fit and score_samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import ArrayLike

from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators.base import STACK, Capability
from anomaly_sweep.estimators.flow.settings import FAST, FlowSettings, flow_settings
from anomaly_sweep.metrics.ties import ScoreScale

if TYPE_CHECKING:
    from anomaly_sweep.estimators.flow.data import Floats
    from anomaly_sweep.estimators.flow.fitted import FittedFlow


class CouplingFlow:
    """Normalizing flow of affine couplings (RealNVP; DifferNet's two-sided form by default).

    A stack of one: what `train_stack` gives for many flows at once, this gives for one. Data are whitened
    inside; by default the flow begins as the Gaussian of that whitening and leaves it for as many steps as
    held-back training samples speak for (`anomaly_sweep.estimators.flow.choice`). Where the data are
    principal components, those held back should not have been seen by these either: `train_stack` takes
    `refits`. With one dimension no coupling exists, and the flow is the Gaussian with the mean and standard
    deviation of the training data.

    Parameters
    ----------
    settings : FlowSettings
        See `flow_settings` for the presets.
    seed : int
        Of permutations, initial parameters and minibatches.
    device : {"cpu", "cuda"} or "cuda:N"
        Where to train and score. In a sweep `runtime.device` says it, and `estimator.device` is refused.
    seeds : int
        How many flows a sweep trains of it, for the mean and the spread of their figures, >= 1. `fit` trains
        the first.

    Attributes
    ----------
    flow_ : FittedFlow
        After `fit`.
    """

    computed: ClassVar[Capability] = STACK

    flow_: FittedFlow

    def __init__(
        self, settings: FlowSettings = FAST, seed: int = 0, device: str = "cpu", seeds: int = 1
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.device = device
        self.seeds = seeds

    @property
    def score_scale(self) -> ScoreScale:
        """Squared latents have a natural zero, log-likelihoods have none."""
        return "ratio" if self.settings.score == "z2" else "interval"

    def fit(self, X: ArrayLike, y: object = None) -> CouplingFlow:
        """Train on normal samples.

        Parameters
        ----------
        X : array_like, (n, d)
            ``n >= 2``, finite.
        y : object
            Ignored.

        Raises
        ------
        EstimatorError
            If the data cannot be used, the training diverges or the device is not there.
        """
        from anomaly_sweep.estimators.flow.train import train_stack

        (result,) = train_stack([X], [self.seed], self.settings, self.device)
        if isinstance(result, EstimatorError):
            raise result
        self.flow_ = result
        return self

    def score_samples(self, X: ArrayLike) -> Floats:
        """Anomaly scores of samples ``(n, d)``.

        Returns
        -------
        float64 array, (n,)
            Higher = more anomalous (scikit-learn's own density models have it the other way round). See
            `score_stack`.

        Raises
        ------
        EstimatorError
            If `fit` has not been called, the samples are not finite or have other dimensions.
        """
        if not hasattr(self, "flow_"):
            raise EstimatorError("flow: call fit before score_samples")
        return self.flow_.score_samples(X)


def coupling_flow(
    preset: str = "fast", seed: int | None = None, device: str = "cpu", seeds: int = 1, **changes: Any
) -> CouplingFlow:
    """A `CouplingFlow` from a preset's name; None among the changes means the preset's value.

    Raises
    ------
    ConfigError
        If the preset or a setting is unknown, or a value is outside its range.
    """
    try:
        settings = flow_settings(
            preset, **{key: value for key, value in changes.items() if value is not None}
        )
    except EstimatorError as error:
        raise ConfigError(str(error)) from error
    for name, value, least in (("seed", 0 if seed is None else seed, 0), ("seeds", seeds, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"estimator.{name} must be a whole number >= {least}, got {value!r}")
    return CouplingFlow(settings, seed or 0, device, seeds)
