"The simulated machine of `wattnb.testing.simulated`, under its names of the first version."
from .testing.simulated import (PowerCurve, SimulatedClock as ScriptedClock, SimulatedGpu as ScriptedGpu,
                                SimulatedNvml as ScriptedNvml, SimulatedRapl as ScriptedRapl, bursts,
                                simulated_nvml as scripted_nvml, square_wave)

__all__ = ['PowerCurve', 'ScriptedClock', 'ScriptedGpu', 'ScriptedNvml', 'ScriptedRapl', 'bursts', 'scripted_nvml',
           'square_wave']
