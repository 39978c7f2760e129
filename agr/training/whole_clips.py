"""What a model says of whole clips, as prediction does: the mean over a clip's windows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from agr.data.image_set import ImageSet
from agr.data.splits import Indices
from agr.data.tracks import Tracks
from agr.labels import CLASSES
from agr.recipes.base import Recipe
from agr.training.model import predict_logits

AT_ONCE = 64  # clips


def clip_logits(
    model: nn.Module, data: ImageSet, rows: Indices, device: torch.device, recipe: Recipe | None = None
) -> Tensor:
    """Logits of clips, (m, 2), float32, on the CPU, by a model on `device`; rows: (m,).

    Where a clip is stored whole, they are the mean over its windows, weighted by the speech in each; else those of the
    second that is stored. recipe: that of the model, if it draws other images from the same voice features.
    """
    recipe = recipe or data.recipe
    if not isinstance(data.features, Tracks):
        if recipe == data.recipe:
            return predict_logits(model, data.pixels, rows, device)
        assert data.features is not None
        return predict_logits(model, recipe.images(data.features[rows]), np.arange(len(rows)), device)
    logits = [torch.zeros(0, len(CLASSES))]
    for start in range(0, len(rows), AT_ONCE):
        cut, weights = zip(*data.features.windows(rows[start : start + AT_ONCE]), strict=True)
        images = recipe.images(np.concatenate(cut))
        logits_of_all = predict_logits(model, images, np.arange(len(images)), device)
        found = torch.split(logits_of_all, [len(each) for each in cut])
        pairs = zip(found, weights, strict=True)
        logits.append(torch.stack([torch.from_numpy(weight).float() @ each for each, weight in pairs]))
    return torch.cat(logits)
