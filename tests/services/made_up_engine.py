"""An engine of one's own, for a kind that only tests know."""

from typing import Annotated, Literal
from uuid import UUID

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from services.images.engines.base import ConfiguredEngine, EngineError, EngineResult
from services.images.engines.decode import decode
from services.images.engines.encode import png_result


class NegativeOptions(BaseModel):
    """Turn the colours round."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input: Annotated[UUID | None, Field(strict=False)] = None
    film: Literal["colour", "grey"] = "colour"


class Negative(ConfiguredEngine):
    """Turns the colours of a picture round; of grey film there is none left."""

    name = "made_up"
    operation_type = "negative"
    options_model = NegativeOptions

    def run(self, source: bytes | None, options: NegativeOptions) -> EngineResult:
        """Make the negative. Raises EngineError for grey film."""
        if options.film == "grey":
            raise EngineError("There is no grey film left. Choose colour.")
        picture = decode(source)
        pixels = picture.pixels.copy()
        pixels[..., :3] = np.uint8(255) - pixels[..., :3]
        return png_result(pixels)
