"`wattnb.scripted` is `wattnb.testing.scripted`, under its name of the first version."
import sys

from .testing import scripted

sys.modules[__name__] = scripted
