"""A device that every machine has: tensors on it are kept in memory, but meet those of the CPU no more than a GPU's do.

With `--device cuda` all that is computed has to lie on the device. A machine without one tells nothing of that, since
its tensors are all on the CPU. On the device `elsewhere` an operation of PyTorch fails as on a GPU where it meets a
tensor of the CPU (of more than one number), and so does `numpy()`; what it computes is what the CPU does.
"""

import contextlib
import functools
from unittest import mock

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
# What takes tensors of the CPU besides: copies, and an index.
_MIXED = {"_to_copy", "copy_", "copy", "index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class Elsewhere(torch.Tensor):
    """A tensor on the device; `held` has its numbers."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
            requires_grad=False,
        )

    def __init__(self, held):
        self.held = held

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        return self.held.tolist()

    def new_tensor(self, data, **options):
        return Elsewhere(self.held.new_tensor(data, **options))

    def __deepcopy__(self, memo):
        copied = Elsewhere(self.held.detach().clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __tensor_flatten__(self):  # by which `Module.to` knows how to replace parameters of this kind
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner, _context, _size, _stride):
        return Elsewhere(inner["held"])

    def __format__(self, spec):
        return format(self.item() if self.dim() == 0 else self.held, spec)

    def __getitem__(self, index):
        return super().__getitem__(_with_tensors(index))

    def __setitem__(self, index, value):
        super().__setitem__(_with_tensors(index), value)

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        torch.Tensor.data.__set__(self, value)
        self.held = value.held

    def numpy(self):
        raise TypeError(f"a tensor on {NAME} is no array of NumPy: copy it to the CPU first")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    name, seen = func.overloadpacket.__name__, []
    plain_args, plain = _each(args, lambda t: _held(t, seen)), _each(kwargs, lambda t: _held(t, seen))
    if name not in _MIXED:
        for one in seen:
            if not isinstance(one, Elsewhere) and one.dim() > 0:
                raise RuntimeError(f"{func}: a tensor of the CPU, {tuple(one.shape)}, meets those of another device")
    if name == "linalg_lstsq" and kwargs.get("driver") not in (None, "gels"):
        raise RuntimeError("torch.linalg.lstsq: only the driver gels is there on another device")
    there = bool(seen) and isinstance(seen[0], Elsewhere)
    if (device := plain.pop("device", None)) is not None:
        there, plain["device"] = torch.device(device).type == NAME, torch.device("cpu")
    plain.pop("pin_memory", None)
    found = func(*plain_args, **plain)
    if name == "_to_copy" and found is plain_args[0]:
        found = found.clone()
    if (name.endswith("_") and not name.endswith("__")) or "out" in plain:
        by_held = {id(t.held): t for t in seen if isinstance(t, Elsewhere)}
        for one in by_held.values():
            if one.shape != one.held.shape:  # such as after `squeeze_`
                torch.Tensor.data.__set__(one, Elsewhere(one.held))
        return _each(found, lambda t: by_held.get(id(t), t))
    return _each(found, Elsewhere) if there else found


def _with_tensors(index):
    if isinstance(index, tuple):
        return tuple(map(_with_tensors, index))
    return torch.tensor(index) if isinstance(index, list) else index


def _held(tensor, seen):
    seen.append(tensor)
    return tensor.held if isinstance(tensor, Elsewhere) else tensor


def _each(value, change):
    """The value with every tensor in it changed; by hand, since there are a hundred thousand of them."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        return type(value)([_each(one, change) for one in value])
    return {key: _each(one, change) for key, one in value.items()} if isinstance(value, dict) else value


@functools.cache
def _registered():
    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
    return library  # which is gone when nobody keeps it


def _made_here(plain):
    def make(*args, device=None, **options):
        made = plain(*args, **options)
        return made if device is None else made.to(device)

    return make


@contextlib.contextmanager
def device():
    """The device. Meanwhile new tensors are made on the CPU and copied, since PyTorch makes some by resizing others."""
    _registered()
    with contextlib.ExitStack() as stack:
        for name in ("tensor", "eye", "arange", "linspace", "zeros", "ones", "full", "empty", "randn"):
            stack.enter_context(mock.patch.object(torch, name, _made_here(getattr(torch, name))))
        yield torch.device(NAME, 0)
