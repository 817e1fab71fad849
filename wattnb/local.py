"`wattnb.local` is `wattnb.llm.local`, under its name of the first version."
import sys

from .llm import local

sys.modules[__name__] = local
