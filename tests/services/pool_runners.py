"""Runners for children under test: what they do is said by the options of each operation, or by its source."""

import ctypes
import hashlib
import json
import os
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from services.images import child
from services.images.engines import EngineError, EngineResult, ExtraFile, ProviderCall


class FakeRunner:
    """Answers with its source, after doing what `options["do"]` says."""

    def __init__(self) -> None:
        self.providers = {"upscale": "fake", "generate": "fake"}

    def __call__(self, operation_type: str, source: bytes | None, options: dict[str, Any]) -> EngineResult:
        calls: tuple[ProviderCall, ...] = ()
        # The database knows the options of an upscale, so on the real stack the orders are in the picture.
        orders = json.loads(source) if source and source.startswith(b'{"do"') else options
        match orders.get("do", "echo"):
            case "sleep":
                time.sleep(orders["seconds"])
            case "spin_in_c":
                # PyDLL keeps the interpreter lock: no other thread of the child can run meanwhile.
                ctypes.PyDLL(None).sleep(int(orders["seconds"]))
            case "meet":
                # Comes back only when as many children as are expected are here at the same time.
                folder = Path(orders["folder"])
                (folder / str(os.getpid())).touch()
                while len(list(folder.iterdir())) < orders["expected"]:
                    time.sleep(0.01)
            case "forge":
                forged = [bytes.fromhex(orders["frame"])]
                child.encode_reply = lambda _: forged  # type: ignore[assignment, attr-defined]
            case "segfault":
                ctypes.string_at(0)
            case "allocate":
                bytearray(orders["megabytes"] << 20)
            case "refuse":
                raise EngineError("This is not flat art.", calls=(ProviderCall("fake", cost=None),))
            case "paid":
                calls = (ProviderCall("fake", cost=Decimal("0.04")),)
            case "later":
                raise EngineError("The provider is busy.", retryable=True, retry_after=7)
            case "bug":
                raise ZeroDivisionError("a bug")
        data = source or b"generated"
        return EngineResult(
            data=data,
            media_type="image/png",
            extension="png",
            width=1,
            height=1,
            thumbnail=b"thumbnail",
            calls=calls,
            files=(ExtraFile("white", "White", b"white", "image/png", "png"),) if orders.get("do") == "white" else (),
            details={
                "pid": os.getpid(),
                "sha256": hashlib.sha256(data).hexdigest(),
                "threads": os.environ["OMP_NUM_THREADS"],
                "variables": sorted(os.environ),
            },
        )


class UnableToStart:
    """A runner whose libraries are missing."""

    def __init__(self) -> None:
        raise ImportError("no such library")
