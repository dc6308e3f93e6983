"""The image engines: what turns an uploaded file or a prompt into a result.

`run_operation` is the one entry for the worker's child process. Engine modules are imported by
`build_engines` and not before, so that the worker itself stays small.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from services.images.engines.base import JSON, Engine, EngineError, EngineResult, ExtraFile, ProviderCall
from services.images.engines.settings import EngineSettings

__all__ = [
    "JSON",
    "Engine",
    "EngineError",
    "EngineResult",
    "EngineSettings",
    "ExtraFile",
    "ProviderCall",
    "build_engines",
    "engine_paths",
    "load_engine",
    "run_operation",
]

# Where the engines are; each says itself which operation it does. Hosted ones stand under the setting that switches
# them on, and then do their operation in place of the offline one.
OFFLINE_ENGINES = (
    "services.images.engines.upscale:Waifu2xEngine",
    "services.images.engines.background:SurfaceKeyEngine",
    "services.images.engines.vectorize:VtracerEngine",
    "services.images.engines.generate:TemplateLetteringEngine",
    "services.images.engines.print_ready:FilmEngine",
)
HOSTED_ENGINES = {"openai_api_key": "services.images.engines.openai_images:OpenAIImagesEngine"}

_TOO_DEEP = "The picture is nested too deeply to be read. Flatten it, or save it as PNG, and try again."
_BLANK = "Nothing can be seen of the result: it is wholly transparent. Check the picture and the options."
_BLANK_CALL = "nothing can be seen of the result"
_TOO_LITTLE_MEMORY = "The picture needs more memory than one operation may use. Make it smaller and try again."


def engine_paths(settings: EngineSettings | None = None) -> list[str]:
    """Where the engines are that the settings ask for, in the order in which they replace each other.

    Without settings all of ours.
    """
    hosted = [path for name, path in HOSTED_ENGINES.items() if settings is None or getattr(settings, name) is not None]
    return [*OFFLINE_ENGINES, *hosted, *(settings.engine_classes if settings is not None else ())]


def load_engine(path: str) -> Callable[[EngineSettings], Engine]:
    """The class of an engine. Raises RuntimeError when there is none at `path`."""
    module, _, name = path.partition(":")
    try:
        loaded: Callable[[EngineSettings], Engine] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RuntimeError(f"The engine {path} cannot be loaded: {error}. Name it as package.module:Class.") from error
    return loaded


def build_engines(settings: EngineSettings) -> dict[str, Engine]:
    """Build the configured engine of each operation, by operation type.

    The offline engines need no key and are the default; a hosted one does its operation instead once its key is set,
    and what ENGINE_CLASSES names comes last. Raises RuntimeError when an engine's files are not installed.
    """
    _limit_threads(settings.engine_threads)
    engines = [load_engine(path)(settings) for path in engine_paths(settings)]
    return {engine.operation_type: engine for engine in engines}


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
