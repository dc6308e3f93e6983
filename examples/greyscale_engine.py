"""An engine of one's own: a kind of operation that takes the colours out of a picture.

The kind is a row, in a migration:

    insert into public.operation_types (name, title, description, activity, result_title, works_on, credits, options)
    values (
        'greyscale', 'Take the colours out', 'Grey, as a newspaper has it.', 'Taking the colours out', 'Grey', 'image',
        1, '[{"name": "input", "label": "Works on", "type": "operation", "default": null}]'
    );

And the worker is told where its engine is:

    ENGINE_CLASSES=examples.greyscale_engine:GreyscaleEngine dtf run images
"""

from typing import Annotated
from uuid import UUID

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from services.images.engines.base import ConfiguredEngine, EngineResult
from services.images.engines.decode import decode
from services.images.engines.encode import png_result


class GreyscaleOptions(BaseModel):
    """It has no options but the one that every kind has: the result of an earlier operation to work on."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input: Annotated[UUID | None, Field(strict=False)] = None


class GreyscaleEngine(ConfiguredEngine):
    """Keeps the luma of each pixel (Rec. 601 weights) and its transparency."""

    name = "greyscale"
    operation_type = "greyscale"
    options_model = GreyscaleOptions

    def run(self, source: bytes | None, options: GreyscaleOptions) -> EngineResult:
        """Make the grey picture. Raises EngineError where the file is no picture."""
        pixels = decode(source).pixels.copy()
        luma = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
        pixels[..., :3] = np.round(luma)[..., np.newaxis].astype(np.uint8)
        return png_result(pixels)
