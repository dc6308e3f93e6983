"""The options of each operation, as they arrive from the browser with the operation.

The database checks the same rules when the operation is requested; here they are typed and documented.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _PictureOptions(_Options):
    input: Annotated[
        UUID | None,
        # JSON has no UUID type, so the text form is the strict one.
        Field(
            strict=False,
            description="A completed operation on the same image whose result is the input. "
            "Left out: the original upload.",
        ),
    ] = None


class UpscaleOptions(_PictureOptions):
    """Enlarge a picture."""

    scale: Annotated[Literal[2, 4], Field(description="How many times wider and higher.")] = 4
    denoise: Annotated[
        Literal["auto", "none", "light", "medium", "strong"],
        Field(description="Removal of noise. auto: none for lossless files, medium for JPEG."),
    ] = "auto"
    style: Annotated[
        Literal["auto", "art", "photo"],
        Field(description="Which model: for drawn art or for photos. auto: measured on the picture."),
    ] = "auto"


class BackgroundRemovalOptions(_PictureOptions):
    """Make the background transparent."""

    holes: Annotated[
        Literal["auto", "keep", "remove"],
        Field(
            description="Areas of the background colour that are enclosed by the artwork, such as the "
            "inside of a letter O. remove: transparent; keep: left as they are; auto: decided by the colour "
            "and, on white and black, by whether one colour alone encloses them."
        ),
    ] = "auto"
    shadows: Annotated[
        Literal["removed", "soft", "kept"],
        Field(
            description="Soft shadows of the artwork on its background. removed: transparent; soft: black that is as "
            "see-through as they were light; kept: as they are seen, solid."
        ),
    ] = "removed"
    tolerance: Annotated[
        float | None,
        Field(
            ge=1,
            le=50,
            allow_inf_nan=False,
            description="Colour distance (CIE76 delta E) up to which a pixel counts as background. "
            "null: measured on the background.",
        ),
    ] = None


class VectorizeOptions(_PictureOptions):
    """Trace flat art into an SVG."""

    colors: Annotated[
        int | None,
        Field(ge=2, le=64, description="Number of colours at most. null: chosen from the picture."),
    ] = None
    detail: Annotated[
        Literal["low", "medium", "high"],
        Field(description="How small a shape is kept; more detail makes a larger file."),
    ] = "medium"


class PrintReadyOptions(_PictureOptions):
    """Make the file that prints."""

    size: Annotated[
        float, Field(ge=0.1, le=1524, allow_inf_nan=False, description="Length of one side of the print, in `unit`.")
    ]
    side: Annotated[Literal["width", "height"], Field(description="Which side is given; the other follows.")] = "width"
    unit: Annotated[Literal["in", "cm", "mm"], Field(description="Unit of the size.")] = "in"
    trim: Annotated[bool, Field(description="Whether the size is that of the art, without clear borders.")] = True
    alpha: Annotated[
        Literal["harden", "halftone", "keep"],
        Field(description="Semi-transparency: made solid or clear, shown as dots, or left as it is."),
    ] = "harden"
    lpi: Annotated[int, Field(ge=25, le=55, description="Lines of dots an inch of a halftone.")] = 35
    knockout: Annotated[
        str | None,
        Field(pattern=r"^#[0-9a-fA-F]{6}$", description="Garment colour that becomes clear, #rrggbb. null: none."),
    ] = None
    tolerance: Annotated[
        float,
        Field(
            ge=1,
            le=50,
            allow_inf_nan=False,
            description="Colour distance (CIE76 delta E) up to which the knocked-out colour is clear.",
        ),
    ] = 6
    enlarge: Annotated[
        bool, Field(description="Whether art with too few pixels is enlarged by the upscale engine.")
    ] = False
    white: Annotated[bool, Field(description="Whether the white below the colours is made.")] = True
    choke: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="How far the white is drawn in, in mm.")
    ] = 0.2
    least_line: Annotated[
        float, Field(ge=0, le=2, allow_inf_nan=False, description="Thinner lines, in mm, are shown. 0: not looked for.")
    ] = 0.36
    least_gap: Annotated[
        float, Field(ge=0, le=2, allow_inf_nan=False, description="Narrower gaps, in mm, are shown. 0: not looked for.")
    ] = 0.7
    mirror: Annotated[bool, Field(description="Whether print and white are mirrored.")] = False
    garment: Annotated[
        str | None,
        Field(
            pattern=r"^#[0-9a-fA-F]{6}$", description="Colour of a shirt for a mock-up, #rrggbb. null: none is made."
        ),
    ] = None
    format: Annotated[Literal["png", "pdf", "tiff"], Field(description="Format of the print file.")] = "png"


class GenerateOptions(_Options):
    """Make new artwork from words."""

    prompt: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=300),
        Field(description="What to make. The built-in engine letters these words as they stand."),
    ]
    size: Annotated[int, Field(ge=256, le=4096, description="Width and height in pixels.")] = 2400
    color: Annotated[
        str | None,
        Field(pattern=r"^#[0-9a-fA-F]{6}$", description="Main colour as #rrggbb. null: chosen."),
    ] = None
    font: Annotated[
        Literal["auto", "fredoka", "amatic", "manrope", "serif"],
        Field(description="Typeface of the built-in engine. auto: chosen."),
    ] = "auto"
