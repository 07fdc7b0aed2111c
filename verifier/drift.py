"""Drift: a stage that is a little too far off in check after check, below every limit. Page's CUSUM.

An alarm accuses nobody. It makes this verifier look at more of the provider's receipts of its own accord; only what one of those checks finds by
itself can be disputed.
"""

ALLOWANCE = 1.0
"""In standard deviations: what honest kernels and prompts may lie above the mean for ever."""
ALARM = 10.0
MOST = 5.0
"""What one check may add at most, so that a single bad one is no drift."""


def cusum(before: float, score: float) -> float:
    """The sum after a check of that score: ``max(0, before + score - ALLOWANCE)``. From ALARM on the provider is distrusted."""
    return max(0.0, before + min(score, MOST) - ALLOWANCE)
