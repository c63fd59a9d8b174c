"""`python -m jaxstyle`."""

import sys

from jaxstyle.app.cli import main

sys.exit(main())
