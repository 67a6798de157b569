"""The app of a measured worker that has the plugin, no port, and nothing warm."""

import bufpool_workers as bp
from tests.benchmarks.plain_app import app

app.conf.bufpool_warm = {"regular": {}, "secure": {}, "random": {}}
bp.setup(app)
