"""Energy, power, memory and time of a run, their attribution to stages and questions, and their footprint."""
from .traces import *
from .power_meters import *
from .attribution import *
from .sampler import *
from .energy import *
from .merging import *
from .device_limits import *
from .footprints import *
from .capabilities import *
from .session import *
from .metering import *
