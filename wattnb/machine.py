"`wattnb.machine` is `wattnb.core.hardware`, under its name of the first version."
import sys

from .core import hardware

sys.modules[__name__] = hardware
