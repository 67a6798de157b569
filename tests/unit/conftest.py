"""`tasks/` is an app to copy from and not installed: it is imported from the checkout."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
