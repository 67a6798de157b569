"""A pytest plugin for RQ's own tests, in which its workers and jobs are ours."""

import importlib
import pkgutil
import sys

import rq

from bufpool_workers import rq as ours

for module in pkgutil.iter_modules(rq.__path__, "rq."):
    importlib.import_module(module.name)

STOCK = {name: getattr(rq, name, None) or rq.job.Job for name in ours.__all__}
for name, module in list(sys.modules.items()):
    if name.partition(".")[0] == "rq":
        for each, stock in STOCK.items():
            if vars(module).get(each) is stock:
                setattr(module, each, getattr(ours, each))
rq.Queue.job_class = rq.registry.BaseRegistry.job_class = ours.Job
