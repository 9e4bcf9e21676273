"""Scores of images and captions, with percentiles among known pairs."""

from i0t.scoring.pairs import ScoredPair, read_pairs
from i0t.scoring.percentiles import Calibration, calibrate, percentiles
from i0t.scoring.scorer import PairScorer

__all__ = ["Calibration", "PairScorer", "ScoredPair", "calibrate", "percentiles", "read_pairs"]
