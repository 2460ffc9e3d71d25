"""The gradient noise scale: the batch size beyond which a larger one helps little."""

from __future__ import annotations

import math

from .neighbourhood import Neighbourhood


def noise_scale(around: Neighbourhood) -> float:
    """tr Σ / ‖G‖², with Σ the covariance of the gradients of single samples (McCandlish et al. 2018, appendix A.1).

    Both are unbiased, from n batches of one size b and all of them together. Let m be the mean of ‖g_b‖², and M the
    square of the mean's length. Then tr Σ = n b (m − M) / (n − 1), and ‖G‖² = M − tr Σ / (n b). Unit: samples. Cost: a
    gradient.

    Returns:
        The scale; NaN with fewer than two batches of one size, infinite where the gradient is lost in the noise.
    """
    size, (count, total, squares) = max(around.moments.items(), key=lambda item: item[1].batches)
    if count < 2 or math.isinf(size):
        return math.nan
    mean_square, square_of_mean = squares / count, float(total @ total) / count**2
    spread = count * size * (mean_square - square_of_mean) / (count - 1)
    square = square_of_mean - spread / (count * size)
    return spread / square if square > 0 else math.inf
