"`wattnb.local` is `wattnb.llm.local` under its name of the first version, with what that module held then."
import sys

from .llm import batching, chat_template, checkpoint, loading, local

for module in (batching, chat_template, checkpoint, loading):
    for name, value in vars(module).items():
        if getattr(value, '__module__', '') == module.__name__: vars(local).setdefault(name, value)
sys.modules[__name__] = local
