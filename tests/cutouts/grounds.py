"""Grounds that shops receive: plain, graded, vignetted, paper, shadowed. All are RGB in 0..1 of shape (h, w, 3)."""

from __future__ import annotations

import cv2
import numpy as np

from tests.cutouts.case import Floats

Color = tuple[float, float, float]
Shape = tuple[int, int]


def _grid(shape: Shape) -> tuple[Floats, Floats]:
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float64)
    return y / max(shape[0] - 1, 1), x / max(shape[1] - 1, 1)


def flat(shape: Shape, color: Color) -> Floats:
    """One colour (0..255 a channel)."""
    return np.broadcast_to(np.array(color) / 255, (*shape, 3)).copy()


def gradient(shape: Shape, stops: list[Color], degrees: float = 45) -> Floats:
    """A linear gradient over evenly spaced stops; 0 runs to the right, 90 down."""
    y, x = _grid(shape)
    along = (x - 0.5) * np.cos(np.deg2rad(degrees)) + (y - 0.5) * np.sin(np.deg2rad(degrees))
    return _between(stops, (along - along.min()) / (along.max() - along.min()))


def radial(shape: Shape, stops: list[Color], middle: tuple[float, float] = (0.5, 0.5)) -> Floats:
    """A radial gradient from `middle` (x, y) to the furthest corner."""
    y, x = _grid(shape)
    away = np.hypot(x - middle[0], y - middle[1])
    return _between(stops, away / away.max())


def _between(stops: list[Color], along: Floats) -> Floats:
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(along, at, [stop[i] / 255 for stop in stops]) for i in range(3)], axis=2)


def vignette(shape: Shape, color: Color = (255, 255, 255), corner: float = 210 / 255, power: float = 2) -> Floats:
    """A plain colour that darkens towards the corners, to `corner` times itself."""
    y, x = _grid(shape)
    away = np.clip(np.hypot(x - 0.5, y - 0.5) / 0.707, 0, 1)[..., None] ** power
    return flat(shape, color) * (1 - away * (1 - corner))


def paper(shape: Shape, seed: int, grain: float = 5, level: float = 238, blur: float = 1) -> Floats:
    """Scanned paper: grey with blurred noise."""
    noise = np.random.default_rng(seed).normal(0, grain, shape)
    soft = cv2.GaussianBlur(noise, (0, 0), blur).round()
    return np.repeat(((level + soft * 2) / 255)[..., None], 3, axis=2).clip(0, 1)


def under_light(ground: Floats, degrees: float, falloff: float) -> Floats:
    """A ground lit from one side: its far side has `falloff` less of the light."""
    y, x = _grid(ground.shape[:2])
    along = (x - 0.5) * np.cos(np.deg2rad(degrees)) + (y - 0.5) * np.sin(np.deg2rad(degrees)) + 0.5
    return np.asarray(ground * (1 - falloff * along.clip(0, 1) ** 1.5)[..., None])


def under_shadow(
    ground: Floats, art: Floats, move: tuple[int, int] = (8, 10), blur: float = 8, dark: float = 0.45
) -> Floats:
    """A ground with the drop shadow of the art on it, moved by (right, down) px."""
    by = np.array([[1, 0, move[0]], [0, 1, move[1]]], np.float64)
    moved = cv2.warpAffine(art[..., 3], by, (art.shape[1], art.shape[0]))
    shade = cv2.GaussianBlur(moved, (0, 0), blur)
    return np.asarray(ground * (1 - dark * shade[..., None]))
