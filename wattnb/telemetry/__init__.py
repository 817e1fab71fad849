"""Energy, power, memory and time of a run, their attribution to stages and questions, and their footprint."""
from .traces import *
from .power_meters import *
from .attribution import *
from .sampler import *
from .session import *
from .energy import *
from .footprints import *
from .metering import *
from .device_meters import *
from .endpoints import *
from .estimates import *
