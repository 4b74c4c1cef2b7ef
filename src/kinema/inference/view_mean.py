"""Mean over the views of a video, of scores or of probabilities.

Letters: V views, K classes.
"""

import numpy as np
from numpy.typing import NDArray

from kinema.values import AverageName

Array = NDArray[np.float64]


def summands(scores_VK: Array, average: AverageName) -> Array:
    """Terms of the views whose mean is taken over a video: scores, or probabilities."""
    if average == "scores":
        return scores_VK
    powers_VK = np.exp(scores_VK - scores_VK.max(-1, keepdims=True))
    probs_VK: Array = powers_VK / powers_VK.sum(-1, keepdims=True)
    return probs_VK


def mean_scores(means_VK: Array, average: AverageName) -> NDArray[np.float32]:
    """Scores before softmax, from the means of `summands`.

    Those of mean probabilities are logarithms, so that softmax gives the probabilities back. A
    probability that is too small for float64 becomes the smallest one.
    """
    if average == "probs":
        means_VK = np.log(np.maximum(means_VK, np.finfo(np.float64).tiny))
    return np.asarray(means_VK, np.float32)
