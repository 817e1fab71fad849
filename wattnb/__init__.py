"""Benchmark LLMs for question answering over papers: accuracy, citations, latency and energy, per model, precision and machine."""
__version__ = "0.1.0"

import importlib, importlib.util, sys

_MOVED = dict(local='llm.local', machine='core.hardware', meters='telemetry.power_meters', scripted='testing.scripted') # modules of the first version → where they are now


class _Moved:
    "Finds modules under the names of the first version: `import wattnb.local` is `import wattnb.llm.local`."
    def find_spec(self, name, path=None, target=None):
        new = _MOVED.get(name.removeprefix('wattnb.')) if name.startswith('wattnb.') else None
        return importlib.util.spec_from_loader(name, self) if new else None
    def create_module(self, spec): return None
    def exec_module(self, module): sys.modules[module.__name__] = importlib.import_module(f"wattnb.{_MOVED[module.__name__.removeprefix('wattnb.')]}")


if not any(type(f).__name__ == '_Moved' for f in sys.meta_path): sys.meta_path.append(_Moved())
