"`wattnb.local` is `wattnb.llm.local` under its name of the first version, with what that module held then."
import sys

from .llm import batching, chat_template, checkpoint, loading, local, memory

for module in (batching, chat_template, checkpoint, loading):
    for name, value in vars(module).items():
        if getattr(value, '__module__', '') == module.__name__: vars(local).setdefault(name, value)
vars(local).update(
    bytes_per_token=memory.kv_bytes_per_token,
    weights_need=lambda weights, *args: memory.plan_checkpoint(weights.path, *args).weights_bytes)
sys.modules[__name__] = local
