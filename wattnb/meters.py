"`wattnb.meters` is `wattnb.telemetry.power_meters`, under its name of the first version."
import sys

from .telemetry import power_meters

sys.modules[__name__] = power_meters
