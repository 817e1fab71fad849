"`python -m wattnb.cli` is the `wattnb` command."
import sys

from . import main

sys.exit(main())
