"""The one place that imports learn2learn.

`import learn2learn` also imports its vision, gym and text parts, which need torchvision, gym and
more; nothing here uses them, and a torchvision that does not match the build of torch breaks
Lightning's import. Empty modules stand in for those three parts.
"""

import sys
import types

for _part in ("vision", "gym", "text"):
    sys.modules.setdefault(f"learn2learn.{_part}", types.ModuleType(f"learn2learn.{_part}"))

from learn2learn.algorithms import MAML  # noqa: E402
from learn2learn.utils import update_module  # noqa: E402

__all__ = ["MAML", "update_module"]
