"""Options of the engines, what a picture that asks too much ends in, and which engines are built.

What each option may be, tests/database/test_operation_types.py compares with the rows.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from pydantic import BaseModel, ValidationError

from services.images.engines import (
    Engine,
    EngineError,
    EngineResult,
    EngineSettings,
    build_engines,
    engine_paths,
    load_engine,
    run_operation,
)
from services.images.engines.options import VectorizeOptions
from tests.services.engine_support import refusal

ENGINES = cast("list[type[Engine]]", [load_engine(path) for path in engine_paths()])
MODELS = {str(engine.operation_type): cast("type[BaseModel]", engine.options_model) for engine in ENGINES}

DEFAULTS: dict[str, dict[str, Any]] = {
    "upscale": {"input": None, "scale": 4, "denoise": "auto", "style": "auto"},
    "background_removal": {"input": None, "holes": "auto", "shadows": "removed", "tolerance": None},
    "vectorize": {"input": None, "colors": None, "detail": "medium"},
    "generate": {"prompt": "Hi", "size": 2400, "color": None, "font": "auto"},
    "print_ready": {
        "input": None,
        "size": 10.0,
        "unit": "in",
        "side": "width",
        "trim": True,
        "enlarge": False,
        "alpha": "harden",
        "lpi": 35,
        "knockout": None,
        "tolerance": 6.0,
        "white": True,
        "choke": 0.2,
        "least_line": 0.36,
        "least_gap": 0.7,
        "mirror": False,
        "garment": None,
        "format": "png",
    },
}

REQUIRED: dict[str, dict[str, Any]] = {"generate": {"prompt": "Hi"}, "print_ready": {"size": 10}}

ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("upscale", {"scale": 2}),
    ("upscale", {"input": "0f7b7a1c-5d7e-4c59-9f5e-0d4a2a1f7c11"}),
    ("background_removal", {"tolerance": 1}),
    ("background_removal", {"shadows": "soft"}),
    ("background_removal", {"tolerance": 50.0}),
    ("background_removal", {"tolerance": None, "holes": "remove"}),
    ("vectorize", {"colors": 2}),
    ("vectorize", {"colors": 64, "detail": "high"}),
    ("generate", {"prompt": "x" * 300, "size": 256}),
    ("generate", {"prompt": "  Hi  ", "size": 4096, "color": "#A1b2C3", "font": "serif"}),
]

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("upscale", {"scale": 3}),
    ("upscale", {"scale": "4"}),
    ("upscale", {"scale": True}),
    ("upscale", {"denoise": "heavy"}),
    ("upscale", {"sharpen": True}),
    ("upscale", {"input": "the last one"}),
    ("background_removal", {"tolerance": 0.5}),
    ("background_removal", {"shadows": True}),
    ("background_removal", {"tolerance": 51}),
    ("background_removal", {"tolerance": "6"}),
    ("background_removal", {"tolerance": True}),
    ("background_removal", {"tolerance": float("nan")}),
    ("background_removal", {"holes": None}),
    ("vectorize", {"colors": 1}),
    ("vectorize", {"colors": 65}),
    ("vectorize", {"colors": 2.5}),
    ("vectorize", {"detail": "max"}),
    ("generate", {}),
    ("generate", {"prompt": "   "}),
    ("generate", {"prompt": "x" * 301}),
    ("generate", {"prompt": 5}),
    ("generate", {"prompt": "Hi", "size": 255}),
    ("generate", {"prompt": "Hi", "size": 4097}),
    ("generate", {"prompt": "Hi", "color": "red"}),
    ("generate", {"prompt": "Hi", "color": "#12345"}),
    ("generate", {"prompt": "Hi", "color": "#123456\n"}),
    ("generate", {"prompt": "Hi", "font": "comic"}),
    ("print_ready", {}),
    ("print_ready", {"size": 0}),
    ("print_ready", {"size": float("nan")}),
    ("print_ready", {"size": 10, "unit": "px"}),
    ("print_ready", {"size": 10, "height": 5}),
    ("print_ready", {"size": 10, "choke": 1.1}),
    ("print_ready", {"size": 10, "lpi": 35.5}),
    ("generate", {"prompt": "Hi", "input": "0f7b7a1c-5d7e-4c59-9f5e-0d4a2a1f7c11"}),
]


@pytest.mark.parametrize("operation_type", DEFAULTS)
def test_what_is_left_out_has_a_default(operation_type: str) -> None:
    given = REQUIRED.get(operation_type, {})
    assert MODELS[operation_type].model_validate(given).model_dump() == DEFAULTS[operation_type]


@pytest.mark.parametrize(("operation_type", "options"), ACCEPTED)
def test_options_within_the_bounds_are_accepted(operation_type: str, options: dict[str, Any]) -> None:
    MODELS[operation_type].model_validate(options)


@pytest.mark.parametrize(("operation_type", "options"), REFUSED)
def test_other_options_are_refused(operation_type: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MODELS[operation_type].model_validate(options)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
def test_every_option_is_described_in_the_schema(engine: type[Engine]) -> None:
    schema = cast("type[BaseModel]", engine.options_model).model_json_schema()
    assert schema["additionalProperties"] is False
    assert all(field.get("description") for field in schema["properties"].values())


def test_wrong_options_are_a_permanent_error_that_names_the_option() -> None:
    error = refusal("upscale", b"", scale=3)
    assert "scale" in error.message


class Failing:
    name = "failing"
    operation_type = "vectorize"
    options_model = VectorizeOptions

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, source: bytes | None, options: VectorizeOptions) -> EngineResult:
        raise self._error


@pytest.mark.parametrize(
    ("error", "reason"), [(MemoryError(), "more memory"), (RecursionError("maximum recursion depth"), "too deeply")]
)
def test_a_picture_that_asks_too_much_is_refused_for_good(error: Exception, reason: str) -> None:
    with pytest.raises(EngineError, match=reason) as caught:
        run_operation(Failing(error), b"", {})
    assert not caught.value.retryable


def test_settings_hide_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    settings = EngineSettings()
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in repr(settings)


def test_the_engines_need_no_key_and_a_key_brings_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    offline = {name: engine.name for name, engine in build_engines(EngineSettings()).items()}
    assert offline == {
        "upscale": "waifu2x",
        "background_removal": "surface_key",
        "vectorize": "vtracer",
        "generate": "template_lettering",
        "print_ready": "film",
    }
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert build_engines(EngineSettings())["generate"].name == "template_lettering"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert build_engines(EngineSettings())["generate"].name == "openai"


def test_an_engine_of_ones_own_takes_the_place_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_CLASSES", "tests.services.made_up_engine:Negative")
    engines = build_engines(EngineSettings())
    assert engines["negative"].name == "made_up"
    assert engines["upscale"].name == "waifu2x"


@pytest.mark.parametrize("path", ["nowhere:Engine", "tests.services.made_up_engine:Missing", ":x"])
def test_an_engine_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("ENGINE_CLASSES", path)
    with pytest.raises(RuntimeError, match="cannot be loaded"):
        build_engines(EngineSettings())
