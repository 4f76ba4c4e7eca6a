"""The one place that imports learn2learn; imported only where its backend is used, since it takes seconds.

`import learn2learn` also imports its vision, gym, text and Lightning parts. They need torchvision, gym, a second copy
of Lightning and more; nothing here uses them, and a torchvision that does not match the build of torch breaks
Lightning's import. Empty modules stand in for those four parts.
"""

import sys
import types

for _part in ("vision", "gym", "text"):
    sys.modules.setdefault(f"learn2learn.{_part}", types.ModuleType(f"learn2learn.{_part}"))

_lightning = types.ModuleType("learn2learn.algorithms.lightning")
# learn2learn imports these by name.
for _name in ("EpisodicModule", "MAML", "ANIL", "PrototypicalNetworks", "MetaOptNet"):
    setattr(_lightning, f"Lightning{_name}", None)
sys.modules.setdefault("learn2learn.algorithms.lightning", _lightning)

from learn2learn.algorithms import MAML, MetaSGD  # noqa: E402
from learn2learn.utils import update_module  # noqa: E402

__all__ = ["MAML", "MetaSGD", "update_module"]
