"""A simulated CUDA device: CPU tensors that report ``cuda:0`` and follow the rules of CUDA.

A :class:`SimulatedTensor` holds its numbers on the CPU. Operations on such tensors run
there, in Python. The simulation

- refuses what CUDA refuses: tensors of two devices in one operation, ``numpy()`` of a
tensor on
  the device, page-locking such a tensor; reports float64, which CUDA has and other devices
  lack;
- counts what costs time on a GPU: launches of kernels, waits of the CPU for the device,
copies;
- delays a copy into page-locked memory until its event is waited for, and fills the target
with
  other numbers until then, so that reading too early gives wrong frames;
- raises a lack of memory above a limit.

:func:`install` turns the whole process into a simulated GPU. This cannot be undone, so
these tests run in processes of their own. Not simulated: the kernels, their time and their
order within a stream, cuDNN's workspaces and its choice of algorithms, NVDEC, NVENC, and
the backward pass, whose engine needs a real device: every gradient is :data:`GRADIENT`.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import cloudconv

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
GRADIENT = 0.01
SOURCE = Path(__file__).with_name("guard.cpp")
_PACKAGE = f"{Path(cloudconv.__file__).parent}{os.sep}"
_START = ("models/registry.py", "render/device.py", "jobs/", "training/")
"""Parts of the code in which the CPU may wait for the device: model loading, device
tests."""
_POISON = 0x5A
_FREE = 2**33  # bytes of a device without a limit

_VIEWS = frozenset({
    "detach", "alias", "view", "_unsafe_view", "_reshape_alias", "expand", "slice",
    "select", "permute", "t", "transpose", "unsqueeze", "squeeze", "as_strided", "split",
    "split_with_sizes", "unbind", "unfold", "diagonal", "lift_fresh", "view_as_real",
    "is_same_size", "set_", "resize_", "record_stream", "empty", "empty_like", "new_empty",
    "empty_strided", "new_empty_strided",
})  # fmt: skip
"""Operations that launch no kernel."""

_WAITING = frozenset({
    "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "unique_consecutive",
    "repeat_interleave", "is_nonzero", "bincount",
})  # fmt: skip
"""Operations whose result the CPU must know before it can continue."""

_UNORDERED = frozenset({
    "scatter_add", "scatter_add_", "index_add", "index_add_", "bincount", "histc",
    "kthvalue", "median", "cumsum", "put_", "index_put", "index_put_",
})  # fmt: skip
"""Operations whose result depends on the order in which a GPU's threads write."""

_MOVES_WIDE = frozenset(
    ["copy_", "_to_copy", "clone", "cat", "stack", "fill_", "zero_", "zeros"]
)
"""Operations that CUDA supports for uint16, besides views."""


@dataclass
class Record:
    """The program's use of the device since :meth:`clear`; the keys of counters are lines.

    ``kernels``: launches. ``waits``: blocking synchronisations; waits for an event are in
    ``events``, and those during which the device has nothing else to do in ``idle``. ``up``
    and ``down``: bytes copied. ``faults``: operations that CUDA refuses, or that give wrong
    numbers on a GPU. ``unordered``: operations whose numbers may differ from run to run.
    ``peak``: the largest number of bytes in use at once.
    """

    waits: Counter[str] = field(default_factory=Counter)
    up: Counter[str] = field(default_factory=Counter)
    down: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    unordered: Counter[str] = field(default_factory=Counter)
    kernels: int = 0
    events: int = 0
    idle: int = 0
    peak: int = 0

    def clear(self):
        self.__init__()

    def __sub__(self, earlier):
        """Return the use of the device since an earlier copy of this record."""
        names = [field.name for field in fields(self)]
        return Record(*(getattr(self, name) - getattr(earlier, name) for name in names))


def in_loop(found, *others):
    """Return the entries without those of lines that run before the first frame.

    ``others``: beginnings of more names of modules to leave out.
    """
    kept = {
        k: n for k, n in found.items() if not any(each in k for each in (*_START, *others))
    }
    return Counter(kept)


_PROPERTIES = SimpleNamespace(
    **{"name": "Simulated GPU", "major": 9, "minor": 0, "total_memory": _FREE},
    **{"is_integrated": 0, "multi_processor_count": 1},
)
RECORD = Record()
_LOCK = threading.RLock()
_strict = False


def _line():
    """Return the line of cloudconv that is executed, or else the line of the caller."""
    frame = sys._getframe(1)
    first = None
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE):
            return f"{name.removeprefix(_PACKAGE)}:{frame.f_lineno}"
        if first is None and "/torch/" not in name and name != __file__:
            first = f"{os.path.basename(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return first or "?"


def _note(counter, what="", number=1):
    """Add to a counter of the record, for the line of cloudconv that is executed."""
    with _LOCK:
        getattr(RECORD, counter)[f"{what} ({_line()})".lstrip()] += number


def _fault(text):
    _note("faults", text)
    if _strict:
        raise AssertionError(text)


def _waited(kind):
    """Record that the CPU waits until the device has done all queued work."""
    _note("waits", kind)
    if _strict and in_loop(Counter([_line()])):
        raise AssertionError(f"the CPU waits: {kind}")
    _QUEUE.run()


class _Queue:
    """Copies to main memory that the device has not made yet."""

    def __init__(self):
        self.length = 0
        self._copies = []

    def put(self, target, values):
        with _LOCK, torch.inference_mode():
            self.length += 1
            target.fill_(float("nan") if target.is_floating_point() else _POISON)
            self._copies.append((self.length, target, values.clone()))

    def run(self, until=None):
        with _LOCK, torch.inference_mode():
            while self._copies and (until is None or self._copies[0][0] <= until):
                _, target, values = self._copies.pop(0)
                target.copy_(values)

    def holds(self, tensor):
        """Return whether the tensor's memory is the target of a copy still to make."""
        with _LOCK:
            if not self._copies or tensor.layout != torch.strided:
                return False
            mine = tensor.untyped_storage()._cdata
            return any(
                mine == target.untyped_storage()._cdata for _, target, _ in self._copies
            )


_QUEUE = _Queue()


class _Storages:
    """Storages in use, with their sizes."""

    def __init__(self):
        self._known = {}

    def add(self, tensor):
        """Add the tensor's storage; return whether the storage is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known and not self._known[key][0].expired():
            return False
        self._known[key] = StorageWeakRef(storage), storage.nbytes()
        return True

    def __contains__(self, tensor):
        result = self._known.get(tensor.untyped_storage()._cdata)
        return result is not None and not result[0].expired()

    def total(self):
        dead = [key for key, (known, _) in self._known.items() if known.expired()]
        for key in dead:
            del self._known[key]
        return sum(size for _, size in self._known.values())


class Memory:
    """The device's memory: ``limit`` in bytes.

    The result is None for no limit and no record of the peak.
    """

    def __init__(self):
        self.limit = None
        self._storages = _Storages()

    def take(self, tensor):
        if self.limit is None:
            return
        with _LOCK:
            if not self._storages.add(tensor):
                return
            used = self._storages.total()
            if used > self.limit:
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory (simulated): {used >> 20} MiB of "
                    f"{self.limit >> 20}"
                )
            RECORD.peak = max(RECORD.peak, used)

    def free(self):
        with _LOCK:
            if self.limit is None:
                return _FREE, _FREE
            return self.limit - self._storages.total(), self.limit


MEMORY = Memory()
_PINNED = _Storages()


class SimulatedTensor(Tensor):
    """A tensor that reports ``cuda:0``; its numbers are in ``held``, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        MEMORY.take(held)
        result = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=CUDA,
            requires_grad=requires_grad,
        )
        result.held = held
        return result

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            result = SimulatedTensor(self.detach().held.clone()).requires_grad_(
                self.requires_grad
            )
            if getattr(self, "_is_param", False):
                result._is_param = True
            memo[id(self)] = result
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        return SimulatedTensor, (self.detach().held.clone(),)


def _held(value):
    return value.held if isinstance(value, SimulatedTensor) else value


def _is_on_device(value):
    return isinstance(value, SimulatedTensor)


def _run(func, args, kwargs):
    """Run one operation: on CPU tensors directly, or on simulated tensors' contents."""
    name = func._schema.name.split("::")[1]
    # In inference mode, composite operations arrive here without being split.
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    if not name.startswith("upsample") and func.has_kernel_for_dispatch_key(key):
        with _Dispatch():
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    tensors = [
        value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)
    ]
    on_device = [tensor for tensor in tensors if _is_on_device(tensor)]
    wanted = kwargs.get("device")
    target = None if wanted is None else torch.device(wanted)
    if not on_device and (target is None or target.type != "cuda"):
        return _on_cpu(func, args, kwargs, tensors)
    kwargs = {**kwargs, "pin_memory": False} if kwargs.get("pin_memory") else dict(kwargs)
    if target is not None:
        kwargs["device"] = CPU
    if name == "_to_copy":
        return _moved(func, args, kwargs, target)
    if name == "copy_":
        return _copied(args, kwargs)
    if name == "_local_scalar_dense":
        _waited("item")
        return func(*tree_map(_held, args), **kwargs)
    if name == "_pin_memory":
        _fault("page-locking of a tensor on the device")
        raise RuntimeError("only dense CPU tensors can be pinned")
    _check(
        name, args, on_device, [tensor for tensor in tensors if not _is_on_device(tensor)]
    )
    _count(name, args)
    return _wrapped(name, args, on_device, _computed(func, name, args, kwargs, on_device))


def _on_cpu(func, args, kwargs, tensors):
    for tensor in tensors:
        if _QUEUE.holds(tensor):
            _fault(f"{func._schema.name} of a copy that has not arrived")
    if not kwargs.get("pin_memory"):
        return func(*args, **kwargs)
    result = func(*args, **{**kwargs, "pin_memory": False})
    with _LOCK:
        _PINNED.add(result)
    return result


def _moved(func, args, kwargs, target):
    """Run ``to``: another device, type or order in memory."""
    source = args[0]
    if not _is_on_device(source):
        _note("up", number=source.nbytes)
        if not (kwargs.get("non_blocking") and source in _PINNED):
            _waited("copy to the device")
        return SimulatedTensor(func(source, **kwargs).clone())
    if target is not None and target.type == "cpu":
        _note("down", number=source.nbytes)
        _waited("copy from the device")
        return func(source.held, **kwargs).clone()
    _count("_to_copy", args)
    return SimulatedTensor(func(source.held, **kwargs))


def _copied(args, kwargs):
    """Run ``copy_`` within the device, to the device or from the device."""
    target, source = args[:2]
    blocking = not kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
    if _is_on_device(target):
        if _is_on_device(source):
            _count("copy_", args)
        else:
            _note("up", number=source.nbytes)
            if source.dim() and (blocking or source not in _PINNED):
                _waited("copy to the device")
        target.held.copy_(_held(source))
        return target
    _note("down", number=target.nbytes)
    if blocking or target not in _PINNED:
        _waited("copy from the device")
        target.copy_(source.held)
        return target
    if target.dtype != source.dtype:
        _fault(f"a copy that also changes {source.dtype} to {target.dtype} blocks")
    _QUEUE.put(target, source.held)
    return target


def _check(name, args, on_device, on_cpu):
    """Record operations that CUDA refuses, and operations that make the CPU wait."""
    if name in _WAITING:
        _waited(name)
    indexes = name in ("index", "index_put", "index_put_", "_index_put_impl_")
    if indexes and any(isinstance(i, Tensor) and i.dtype == torch.bool for i in args[1]):
        _waited("index by a mask")
    if indexes and not _is_on_device(args[0]):
        _fault(f"{name}: a tensor on the CPU indexed by one on the device")
        raise RuntimeError("indices should be on the same device as the indexed tensor")
    if on_cpu and indexes:
        _waited("copy of indices to the device")
    elif any(tensor.dim() for tensor in on_cpu):
        shapes = [tuple(tensor.shape) for tensor in on_cpu]
        _fault(f"{name}: tensors of two devices, {shapes} on the CPU")
        raise RuntimeError(f"Expected all tensors to be on the same device: {name}")
    wide = {torch.uint16, torch.uint32, torch.uint64}
    if name not in _VIEWS | _MOVES_WIDE and any(
        tensor.dtype in wide for tensor in on_device
    ):
        _fault(f"{name} of {on_device[0].dtype}, which CUDA may lack")
    # PyTorch's scaler of losses in fp16 computes the reciprocal itself, on CUDA only.
    if name != "reciprocal" and any(tensor.dtype == torch.float64 for tensor in on_device):
        _fault(f"{name} of float64, which Apple's GPUs lack")
    if name == "grid_sampler_2d" and len({tensor.dtype for tensor in on_device}) > 1:
        _fault("grid_sampler_2d of two types")
    # cuDNN sums a transposed convolution in any order unless it must be deterministic.
    transposed = name == "convolution" and len(args) > 6 and args[6]
    if name in _UNORDERED or (transposed and not torch.backends.cudnn.deterministic):
        _note("unordered", name)


def _count(name, args):
    if name not in _VIEWS:
        with _LOCK:
            RECORD.kernels += 1


def _computed(func, name, args, kwargs, on_device):
    args, kwargs = tree_map(_held, args), tree_map(_held, kwargs)
    halves = {tensor.dtype for tensor in on_device} & {torch.float16, torch.bfloat16}
    if not (halves and name in ("convolution", "mm", "addmm", "bmm")):
        return func(*args, **kwargs)
    # As on a GPU, products of 16-bit numbers are added in 32 bits. This is also quicker on
    # a CPU.
    if len({tensor.dtype for tensor in on_device}) > 1:
        _fault(f"{name} of {sorted(str(tensor.dtype) for tensor in on_device)}")
    (dtype,) = halves

    def widened(value):
        return (
            value.float() if isinstance(value, Tensor) and value.dtype == dtype else value
        )

    return func(*tree_map(widened, args), **kwargs).to(dtype)


def _wrapped(name, args, tensors, result):
    """Return the result as simulated tensors.

    Tensors written in place are the given ones.
    """
    originals = {id(tensor.held): tensor for tensor in tensors}
    views_outside = (
        name in _VIEWS
        and torch.is_inference_mode_enabled()
        and args
        and isinstance(args[0], Tensor)
        and not args[0].is_inference()
    )

    def wrap(value):
        if not isinstance(value, Tensor) or _is_on_device(value):
            return value
        if id(value) in originals:
            return originals[id(value)]
        if views_outside:  # a view of a normal tensor is a normal tensor
            with torch.inference_mode(False):
                return SimulatedTensor(value)
        return SimulatedTensor(value)

    return tree_map(wrap, result)


class _Dispatch(TorchDispatchMode):
    """A mode that runs all operations of a thread, also those with a device by name."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _numbered(value):
    """Replace ``cuda`` by the numbered device."""
    if isinstance(value, torch.device | str) and str(value) == "cuda":
        return CUDA
    return value


class _Functions(TorchFunctionMode):
    """A mode for functions of tensors that are not made of operations."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = {key: _numbered(value) for key, value in (kwargs or {}).items()}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = torch.device(kwargs["device"])
            if device.type == "cuda":
                return func(*args, **{**kwargs, "device": CPU}).to(CUDA)
        if args and isinstance(args[0], Tensor):
            special = _SPECIAL.get(func)
            if _is_on_device(args[0]) and special is not None:
                return special(*args, **kwargs)
            reads = (Tensor.numpy, Tensor.__array__, Tensor.tolist, Tensor.__dlpack__)
            if func in reads and _QUEUE.holds(args[0]):
                _fault(f"{func.__name__} of a copy that has not arrived")
        if getattr(func, "__name__", "") in ("to", "pin_memory"):
            args = tuple(map(_numbered, args))
        return func(*args, **kwargs)


def _listed(tensor):
    _waited("tolist")
    return tensor.detach().held.tolist()


def _refused(what):
    def refuse(*_, **__):
        _fault(f"{what} of a tensor on the device")
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy: use Tensor.cpu() first"
        )

    return refuse


def _gradients(loss, *_, **__):
    """Give each leaf that the loss depends on a gradient, in place of the backward pass."""
    seen = set()
    todo = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            more = torch.full_like(leaf.detach(), GRADIENT)
            leaf.grad = more if leaf.grad is None else leaf.grad + more
        todo += [following for following, _ in node.next_functions]


def _indexed(tensor, index):
    if isinstance(index, list):
        index = torch.tensor(index).to(CUDA)
    return Tensor.__getitem__(tensor, index)


def _made_like(tensor, data, dtype=None, **_):
    return torch.tensor(data, dtype=dtype or tensor.dtype).to(CUDA)


_SPECIAL = {
    Tensor.tolist: _listed,
    Tensor.data_ptr: lambda tensor: tensor.held.data_ptr(),
    Tensor.numpy: _refused("numpy()"),
    Tensor.__array__: _refused("an array"),
    Tensor.backward: _gradients,
    Tensor.__getitem__: _indexed,
    Tensor.new_tensor: _made_like,
    Tensor.cuda: lambda tensor, *_, **__: tensor,
}


class Event:
    """A mark in the device's queue."""

    def __init__(self, *_, **__):
        self._until = self._launched = 0

    def record(self, stream=None):
        if stream is None:
            _fault("an event in the queue of the current device, not in that of the copy")
        self._until, self._launched = _QUEUE.length, RECORD.kernels

    def synchronize(self):
        with _LOCK:
            RECORD.events += 1
            RECORD.idle += RECORD.kernels == self._launched
        _QUEUE.run(self._until)


@contextlib.contextmanager
def device(limit=None):
    """Put this thread on the simulated device and record what happens there.

    Args:
        limit: bytes of memory that the device has.
    """
    with _Functions(), _Dispatch():
        RECORD.clear()
        MEMORY.limit = limit
        try:
            yield RECORD
        finally:
            MEMORY.limit = None


def stay():
    """Put this thread on the device until its process ends.

    A fault, or a wait in the loop of the frames, then ends the process: nobody reads its
    record.
    """
    global _strict
    _strict = True
    _Functions().__enter__()
    _Dispatch().__enter__()


def missing():
    """Return why the simulation cannot run on this machine, or None if it can."""
    if not sys.platform.startswith("linux"):
        return "the simulated GPU runs on Linux only"
    if _compiler() is None:
        return "the simulated GPU needs a C++ compiler, and there is none here"
    return None


def install():
    """Give this process a simulated GPU in all its threads, until the process ends."""
    ctypes.CDLL(str(_library()))
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.serialization.add_safe_globals([SimulatedTensor])
    noise = torch.zeros(16, dtype=torch.uint8)
    nothing = ["_lazy_init", "empty_cache", "set_device", "set_rng_state", "manual_seed"]
    cuda = {
        **{name: lambda *_: None for name in [*nothing, "manual_seed_all"]},
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "current_stream": lambda device: f"stream of {device}",
        "get_device_name": lambda *_: "Simulated GPU",
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: _PROPERTIES,
        "is_bf16_supported": lambda **_: True,
        "mem_get_info": lambda *_: MEMORY.free(),
        "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
        "synchronize": lambda *_: _waited("synchronize"),
        "Event": Event,
        "Stream": lambda *_, **__: SimpleNamespace(wait_stream=lambda _: None),
        "stream": lambda _: contextlib.nullcontext(),
        "get_rng_state": lambda *_: noise,
        "device": lambda *_: contextlib.nullcontext(),
        "is_current_stream_capturing": lambda: False,
    }
    for name, value in cuda.items():
        setattr(torch.cuda, name, value)
    accelerator = torch.accelerator
    accelerator.is_available = lambda: True
    accelerator.current_accelerator = lambda *_, **__: CUDA
    accelerator.set_device_index = lambda *_: None
    torch.optim.Optimizer._accelerator_graph_capture_health_check = lambda _: None
    Tensor.pin_memory = _pinned
    run = threading.Thread.run  # the method of every thread, also of threads of executors

    def run_on_device(thread):
        with _Functions(), _Dispatch():
            run(thread)

    threading.Thread.run = run_on_device


def _pinned(tensor, *_):
    if _is_on_device(tensor):
        _fault("page-locking of a tensor on the device")
        raise RuntimeError("only dense CPU tensors can be pinned")
    copy = tensor.clone(memory_format=torch.contiguous_format)
    with _LOCK:
        _PINNED.add(copy)
    return copy


def _compiler():
    return next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)


def _library():
    """Return ``guard.cpp`` compiled for this PyTorch.

    Compile once, outside the checkout.
    """
    text = SOURCE.read_bytes() + torch.__version__.encode()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    result = cache / "cloudconv-tests" / f"guard-{hashlib.sha256(text).hexdigest()[:16]}.so"
    if result.exists():
        return result
    result.parent.mkdir(parents=True, exist_ok=True)
    root = Path(torch.__file__).parent
    unfinished = result.with_suffix(f".{os.getpid()}")
    command = [
        _compiler(),
        "-O1",
        "-std=c++20",
        "-shared",
        "-fPIC",
        SOURCE,
        "-o",
        unfinished,
    ]
    command += [f"-I{root}/include", f"-I{root}/include/torch/csrc/api/include"]
    subprocess.run([*command, f"-L{root}/lib", "-lc10", "-ltorch_cpu"], check=True)
    return unfinished.replace(result)
