"""`python -m services.images.engines`: start every engine, and print the operation type of each before it starts.

One that takes its process down is the one whose name is the last.
"""

from services.images.engines import OPTIONS_MODELS, EngineSettings, build_engine

settings = EngineSettings()
for operation_type in OPTIONS_MODELS:
    print(operation_type, flush=True)  # noqa: T201
    build_engine(operation_type, settings)
