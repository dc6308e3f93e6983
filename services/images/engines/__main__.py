"""`python -m services.images.engines`: start every engine, and print the module of each before it starts.

One that takes its process down is the one whose name is the last.
"""

from services.images.engines import EngineSettings, engine_paths, load_engine

settings = EngineSettings()
for path in engine_paths(settings):
    print(path.partition(":")[0].rpartition(".")[2], flush=True)  # noqa: T201
    load_engine(path)(settings)
