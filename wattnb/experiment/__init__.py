"""One run: settings, plan, journal, stages, results."""
from .budget import *
from .settings import *
from .journal_lines import *
from .journal import *
from .plan import *
from .run_energy import *
from .run_files import *
from .stages import *
from .stored import *
from .notebook import *
from .execute import *
from .citations import *
from .asking import *
