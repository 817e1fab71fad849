"""WattBot's files and names, and what reads them."""
from .rescoring import *
from .wattbot_files import *
from .wattbot_config import *
