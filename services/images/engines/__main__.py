"""`python -m services.images.engines`: start every engine, have those that cost nothing do one small operation, and
print the module of each before.

One that takes its process down, as a library in C may at its first call, is the one whose name is the last.
"""

import io

from PIL import Image

from services.images.engines import OFFLINE_ENGINES, EngineSettings, engine_paths, load_engine, run_operation

badge = io.BytesIO()
art = Image.new("RGB", (48, 48), "white")
art.paste("crimson", (12, 12, 36, 36))
art.save(badge, "PNG")

NEEDED = {"prompt": "Hello", "size": 1}

settings = EngineSettings()
for path in engine_paths(settings):
    print(path.partition(":")[0].rpartition(".")[2], flush=True)  # noqa: T201
    engine = load_engine(path)(settings)
    if path in OFFLINE_ENGINES:
        fields = engine.options_model.model_fields
        options = {name: value for name, value in NEEDED.items() if name in fields and fields[name].is_required()}
        run_operation(engine, badge.getvalue(), options)
