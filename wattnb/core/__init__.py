"""Workspace, tables, question files, the machine, and the records of files: what every other package starts from."""
from .redaction import *
from .tables import *
from .workspace import *
from .questions import *
from .hardware import *
from .served import *
from .records import *
from .processes import *
from .rocm import *
from .units import *
