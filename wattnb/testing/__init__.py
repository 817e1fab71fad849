"""A simulated server and simulated meters, synthetic runs, scratch workspaces."""
from .simulated import *
from .server import *
from .synthetic import *
from .scratch import *
from .devices import *
