"""Where the frozen program begins: both of its executables, the window's and the command line's."""

import sys

from core.cli import main

sys.exit(main())
