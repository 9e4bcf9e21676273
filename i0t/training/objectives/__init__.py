"""Training objectives: unit features in, named losses out. Encoder calls live in the training step.

An objective is a module with `forward(image_features, text_features, logit_scale)`; one with
`needs_short_captions = True` gets the features of the short captions as a fourth argument. It returns
a dict of named scalars that are summed. A recipe names it by dotted path, so rivals' objectives live
in `baselines`.

Shapes: B batch, D embedding dimensions. Each row of images matches the same row of texts.
"""

from i0t.training.objectives.contrastive import Contrastive, CyClip, Losses
from i0t.training.objectives.long_clip import LongClip
from i0t.training.objectives.views import multi_view

__all__ = ["Contrastive", "CyClip", "LongClip", "Losses", "multi_view"]
