"""One run: settings, plan, journal, stages, results."""
from .settings import *
from .journal import *
from .plan import *
from .run_files import *
from .stages import *
from .stored import *
from .execute import *
from .asking import *
from .guests import *
from .bundles import *
from .exports import *
