"""Put on the path of TAO's jobs on a machine without a GPU: Lightning's Trainer is told to use the processors.

TAO asks for ``accelerator: gpu`` in its code, whatever the spec says. Nothing else of NVIDIA's package is touched.
"""

import importlib.abc
import importlib.machinery
import sys

TARGET = "pytorch_lightning.trainer.trainer"


class _Loader(importlib.abc.Loader):
    def __init__(self, inner):
        self._inner = inner

    def create_module(self, spec):
        return self._inner.create_module(spec)

    def exec_module(self, module):
        self._inner.exec_module(module)
        original = module.Trainer.__init__

        def on_processors(self, *args, **kwargs):
            kwargs.update(accelerator="cpu", devices=1, strategy="auto", precision="32-true")
            original(self, *args, **kwargs)

        module.Trainer.__init__ = on_processors


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != TARGET:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = _Loader(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
