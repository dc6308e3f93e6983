"""The image engines: what turns an uploaded file or a prompt into a result.

`run_operation` is the one entry for the worker's child process. Engine modules are imported by
`build_engines` and not before, so that the worker itself stays small.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from services.images.engines.base import JSON, Engine, EngineError, EngineResult, ProviderCall
from services.images.engines.options import (
    BackgroundRemovalOptions,
    GenerateOptions,
    UpscaleOptions,
    VectorizeOptions,
)
from services.images.engines.settings import EngineSettings

__all__ = [
    "JSON",
    "OPTIONS_MODELS",
    "BackgroundRemovalOptions",
    "Engine",
    "EngineError",
    "EngineResult",
    "EngineSettings",
    "GenerateOptions",
    "ProviderCall",
    "UpscaleOptions",
    "VectorizeOptions",
    "build_engines",
    "run_operation",
]

OPTIONS_MODELS: dict[str, type[BaseModel]] = {
    "upscale": UpscaleOptions,
    "background_removal": BackgroundRemovalOptions,
    "vectorize": VectorizeOptions,
    "generate": GenerateOptions,
}

_TOO_DEEP = "The picture is nested too deeply to be read. Flatten it, or save it as PNG, and try again."
_BLANK = "Nothing can be seen of the result: it is wholly transparent. Check the picture and the options."
_BLANK_CALL = "nothing can be seen of the result"
_TOO_LITTLE_MEMORY = "The picture needs more memory than one operation may use. Make it smaller and try again."


def build_engines(settings: EngineSettings) -> dict[str, Engine]:
    """Build the configured engine of each operation, by operation type.

    The offline engines need no key and are the default; `generate` goes to OpenAI when its key is set.
    Raises RuntimeError when an engine's files are not installed.
    """
    _limit_threads(settings.engine_threads)
    return {operation_type: build_engine(operation_type, settings) for operation_type in OPTIONS_MODELS}


def build_engine(operation_type: str, settings: EngineSettings) -> Engine:
    """Build the configured engine of one operation type. Raises RuntimeError when its files are not installed."""
    match operation_type:
        case "upscale":
            from services.images.engines.upscale import Waifu2xEngine

            return Waifu2xEngine(settings.engine_threads)
        case "background_removal":
            from services.images.engines.background import SurfaceKeyEngine

            return SurfaceKeyEngine(settings.background_model)
        case "vectorize":
            from services.images.engines.vectorize import VtracerEngine

            return VtracerEngine()
        case "generate" if settings.openai_api_key is not None:
            from services.images.engines.openai_images import OpenAIImagesEngine

            return OpenAIImagesEngine(settings)
        case "generate":
            from services.images.engines.generate import TemplateLetteringEngine

            return TemplateLetteringEngine()
    raise LookupError(f"there is no engine of {operation_type}")


def run_operation(engine: Engine, source: bytes | None, raw_options: Mapping[str, Any]) -> EngineResult:
    """Check the options, run the engine on `source`, and see that something is to be seen of its result.

    Raises EngineError for everything a user or an operator can do something about; any other exception
    is a fault of the engine.
    """
    try:
        options = engine.options_model.model_validate(raw_options)
    except ValidationError as error:
        raise EngineError(_describe_invalid_options(engine.operation_type, error)) from error
    import cv2

    try:
        result = engine.run(source, options)
    except RecursionError as error:
        raise EngineError(_TOO_DEEP) from error
    except MemoryError as error:
        raise EngineError(_TOO_LITTLE_MEMORY) from error
    except cv2.error as error:
        # OpenCV has an error of its own for the same thing.
        if getattr(error, "code", None) != cv2.Error.StsNoMem:
            raise
        raise EngineError(_TOO_LITTLE_MEMORY) from error
    _refuse_blank(result)
    return result


def _refuse_blank(result: EngineResult) -> None:
    """Raise EngineError (permanent) when nothing can be seen of a result. What providers took for it stays known."""
    from services.images.engines.decode import is_blank
    from services.images.engines.thumbnail import read_thumbnail

    if is_blank(read_thumbnail(result.thumbnail)):
        calls = tuple(replace(call, error_message=call.error_message or _BLANK_CALL) for call in result.calls)
        raise EngineError(_BLANK, calls=calls)


def _limit_threads(threads: int) -> None:
    # The libraries read these once, when they are loaded.
    for name in ("VIPS_CONCURRENCY", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    import cv2

    cv2.setNumThreads(threads)


def _describe_invalid_options(operation_type: str, error: ValidationError) -> str:
    problems = "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'options'}: {problem['msg']}" for problem in error.errors()
    )
    return f"The options of {operation_type} are not valid: {problems}. Correct them and try again."
