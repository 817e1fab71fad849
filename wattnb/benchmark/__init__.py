"""Many runs: select, place, supervise; scaling studies."""
from .resources import *
from .plan import *
from .progress import *
from .cluster import *
from .runner import *
from .scaling_study import *
from .early_stopping import *
from .study import *
from .watch import *
