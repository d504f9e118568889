"""Programs: how a user's job gets from his process into the workers', and back into a `LoadedJob`.

The idea: four forms. A builtin is its name. A job file travels as its source, so that the job is what was submitted,
even if the file is edited meanwhile, and so that tracebacks can show its lines. A dotted name is imported by the
worker. What exists only as objects (a notebook's functions, an instance with arguments) travels as cloudpickle bytes.

The rule: pickled bytes are made here and opened only by `load`, which only a worker process (or `onerack debug`, for
the job's own user) calls; the master passes a Program on unread.
"""

from __future__ import annotations

import importlib
import inspect
import io
import linecache
import os
import sys
import traceback as tracebacks
from collections import ChainMap
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from types import CodeType, ModuleType
from typing import Any, ClassVar

from onerack.config import MIB
from onerack.errors import UsageError
from onerack.mapreduce.context import in_task
from onerack.mapreduce.job import Job
from onerack.mapreduce.loaded import DOORS, LoadedJob, normalise, stages_of
from onerack.mapreduce.messages import Program
from onerack.mapreduce.sizes import format_size
from onerack.mapreduce.worker.traceback import user_traceback

PAYLOAD_BYTES_MAX = 48 * MIB
"""Of a pickled job, which goes to every worker in one message together with the list of the input's pieces."""
SHIPPED_SOURCE_CHARS_MAX = 4_000_000
"""Lines of notebook cells that go along for tracebacks; beyond, tracebacks do without them."""


def program_of(job: object, arguments: Sequence[str] = ()) -> Program:
    """The form in which `job` can travel. A string is a builtin's name, `job.py[:Class]` or a dotted name.

    Raises: UsageError: no such builtin, file or module; a file that cannot be compiled; an object that cannot be sent;
    or this is called by the code of a job, which would run jobs without end.
    """
    _refuse_recursion()
    if isinstance(job, Program):
        return job
    if isinstance(job, (str, os.PathLike)):
        return _named(os.fspath(job), tuple(arguments))
    if arguments:
        raise UsageError(f"arguments {list(arguments)} are for builtin jobs; give yours to the job's __init__")
    if isinstance(job, ModuleType):
        return _module(job)
    return _pickled(job)


def load(program: Program, stage: int = 0) -> LoadedJob:
    """The job, ready to run, with everything it needs imported.

    Raises: UsageError: it cannot be loaded; the message holds the user's own traceback.
    """
    _extend_search_path(program.search_path)

    def make() -> Any:
        return stages_of(normalise(_target(program)))[stage].source

    target = _target(program)
    stages = stages_of(normalise(target, name=_display_name(program, target)))
    if stage >= len(stages):
        raise UsageError(f"the job has {len(stages)} stages, so there is no stage {stage}")
    job = stages[stage]
    remade: Callable[[], Any] | None = None
    if program.form in ("builtin", "pickle") and not inspect.isclass(job.source):
        remade = make  # From the name or the bytes: exact, where a copy of an object in use could not be.
    return normalise(job.source, name=job.name, make_target=remade) if remade else job


def load_stages(program: Program) -> tuple[LoadedJob, ...]:
    """All stages of the program's chain, the first one first. As `load`."""
    _extend_search_path(program.search_path)
    target = _target(program)
    return stages_of(normalise(target, name=_display_name(program, target)))


_loading: ContextVar[str] = ContextVar("loading", default="")
"""The job file that is being executed by this thread."""


def _refuse_recursion() -> None:
    if _loading.get():
        raise UsageError(
            f"{_loading.get()} runs a job while it is itself loaded as one, and so without end; what runs jobs belongs "
            "under `if __name__ == '__main__':`"
        )
    if in_task():
        raise UsageError("a job cannot be run inside a task of another one; chain them with `then`")


# ---------------------------------------------------------------------------------------------- from a name


def _named(text: str, arguments: tuple[str, ...]) -> Program:
    path, colon, name = text.rpartition(":")
    if not colon or os.path.isfile(text):
        path, name = text, ""
    if path.endswith(".py") or os.path.isfile(path):
        _refuse_arguments(text, arguments)
        return _source(path, name)
    from onerack.mapreduce.jobs import BUILTINS, make

    if text in BUILTINS:
        make(text, arguments)  # Wrong arguments are found now.
        return Program("builtin", text, arguments=arguments)
    if not all(part.isidentifier() for part in text.replace(":", ".").split(".")) or not ("." in text or ":" in text):
        raise UsageError(
            f"there is no job {text!r}: it is none of the builtin jobs ({', '.join(sorted(BUILTINS))}), no file "
            "job.py[:Class], and no dotted name package.module[:Class]"
        )
    _refuse_arguments(text, arguments)
    program = Program("dotted", text, search_path=_search_path())
    _target(program)  # A wrong name is found now.
    return program


def _refuse_arguments(text: str, arguments: tuple[str, ...]) -> None:
    if arguments:
        raise UsageError(f"{text} takes no arguments, and got {' '.join(arguments)}; only builtin jobs do")


def _source(path: str, name: str) -> Program:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such job file") from None
    except OSError as error:
        raise UsageError(f"{path}: the job file cannot be read: {error.strerror}") from None
    try:
        import tokenize

        encoding, _ = tokenize.detect_encoding(iter(content.splitlines(keepends=True)).__next__)
        source = content.decode(encoding)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the job file is not text in the encoding it declares: {error}") from None
    path = os.path.abspath(path)
    program = Program("source", name, path=path, source=source, search_path=(os.path.dirname(path), *_search_path()))
    _compile(program)
    return program


def _search_path() -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.abspath(folder) for folder in sys.path))


def _extend_search_path(folders: Sequence[str]) -> None:
    """Puts folders that are missing in front, in their order; the interpreter's own keep theirs."""
    sys.path[:0] = [folder for folder in dict.fromkeys(folders) if folder not in sys.path]


# ---------------------------------------------------------------------------------------------- from an object


def _module(module: ModuleType) -> Program:
    path = getattr(module, "__file__", None)
    if module.__name__ == "__main__":
        raise UsageError("a script that runs cannot be its own job (a worker would run it again); pass its class")
    if path and path.endswith(".py") and "." not in module.__name__:
        return _source(path, "")
    return Program("dotted", module.__name__, search_path=_search_path())


def _pickled(job: object) -> Program:
    name = normalise(job).name
    try:
        payload = _pickle((job, _shipped_sources()))
    except Exception as error:
        raise UsageError(
            f"{name} cannot be sent to the workers: {error}. What a worker needs besides plain values "
            "(connections, locks, models) is best made in setup()"
        ) from error
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise UsageError(
            f"{name} is {format_size(len(payload))} with all that its functions refer to; at most "
            f"{format_size(PAYLOAD_BYTES_MAX)} go to the workers. Put large data into a file (files=, side_file), or "
            "make it in setup()"
        )
    return Program("pickle", name, payload=payload, search_path=_search_path())


def _pickle(target: object) -> bytes:
    """As `cloudpickle.dumps`, but code keeps the name of its file, by which tracebacks and pdb find its lines.

    Newer releases of cloudpickle write "<dynamic-code>" in its place, so that equal code has equal bytes.
    """
    import cloudpickle

    known = cloudpickle.Pickler.dispatch_table

    def reduce_code(code: CodeType) -> tuple[Any, ...]:
        make, arguments = known[CodeType](code)
        return _code_of_file, (make, arguments, code.co_filename)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table: ClassVar = ChainMap({CodeType: reduce_code}, known)

    with io.BytesIO() as file:
        Pickler(file).dump(target)
        return file.getvalue()


def _code_of_file(make: Callable[..., CodeType], arguments: tuple[Any, ...], filename: str) -> CodeType:
    return make(*arguments).replace(co_filename=filename)


def _shipped_sources() -> dict[str, list[str]]:
    """Source lines that exist in this process only: a notebook's cells, an interactive session's input."""
    shipped: dict[str, list[str]] = {}
    chars = 0
    for filename, entry in list(linecache.cache.items()):
        if len(entry) == 4 and not os.path.exists(filename):
            chars += entry[0]
            if chars > SHIPPED_SOURCE_CHARS_MAX:
                break
            shipped[filename] = list(entry[2])
    return shipped


# ---------------------------------------------------------------------------------------------- in the worker


def _display_name(program: Program, target: Any) -> str:
    if program.form == "builtin":
        return program.name
    if program.form == "source" and isinstance(target, ModuleType):
        return os.path.splitext(os.path.basename(program.path))[0]
    return ""


def _target(program: Program) -> Any:
    """The user's class, object or module."""
    if program.form == "builtin":
        from onerack.mapreduce.jobs import make

        return make(program.name, program.arguments)
    if program.form == "source":
        return _job_in(_executed(program), program.name, os.path.basename(program.path))
    if program.form == "dotted":
        return _imported(program.name)
    return _unpickled(program)


def _unpickled(program: Program) -> Any:
    import cloudpickle

    try:
        job, sources = cloudpickle.loads(program.payload)
    except Exception as error:
        raise UsageError(f"{program.name} cannot be loaded in a worker:\n{user_traceback(error)}") from error
    for filename, lines in sources.items():
        remember_source(filename, lines)
    return job


def remember_source(filename: str, lines: list[str]) -> None:
    """Makes tracebacks and pdb show these lines. An entry without a time is never checked against a file."""
    linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)


def _compile(program: Program) -> Any:
    try:
        return compile(program.source, program.path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        remember_source(program.path, program.source.splitlines(keepends=True))
        text = "".join(tracebacks.format_exception_only(error)).rstrip()
        raise UsageError(f"{os.path.basename(program.path)} cannot be compiled:\n{text}") from None


_modules: dict[tuple[str, str], ModuleType] = {}
"""Modules made of source, so that all tasks of a worker share one, as imported modules are shared."""


def _executed(program: Program) -> ModuleType:
    key = (program.path, program.source)
    if key in _modules:
        return _modules[key]
    code = _compile(program)
    stem = os.path.splitext(os.path.basename(program.path))[0]
    module = ModuleType(f"onerack_job_{stem}")  # A name of its own, so that `json.py` is a fine name for a job file.
    module.__file__ = program.path
    remember_source(program.path, program.source.splitlines(keepends=True))
    _extend_search_path(program.search_path)
    # Registered, because dataclasses, typing and pickle look a class's module up by its name.
    before, sys.modules[module.__name__] = sys.modules.get(module.__name__), module
    loading = _loading.set(os.path.basename(program.path))
    try:
        exec(code, module.__dict__)
    except BaseException as error:
        if before is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = before
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UsageError(
            f"{os.path.basename(program.path)} failed while it was loaded:\n{user_traceback(error)}"
        ) from error
    finally:
        _loading.reset(loading)
    _modules[key] = module
    return module


def _imported(text: str) -> Any:
    """`package.module`, `package.module:Class` or `package.module.Class`."""
    module_name, _, class_name = text.partition(":")
    try:
        return _job_in(_import(module_name), class_name, module_name)
    except ModuleNotFoundError as error:
        parent, _, last = module_name.rpartition(".")
        missing = error.name or module_name
        if class_name or not parent or not (module_name + ".").startswith(missing + ".") or missing == parent:
            raise UsageError(f"{text} cannot be imported: {error}") from None
    try:
        return _job_in(_import(parent), last, parent)
    except ModuleNotFoundError as error:
        raise UsageError(f"{text} cannot be imported: {error}") from None


def _import(name: str) -> ModuleType:
    loading = _loading.set(name)
    try:
        return importlib.import_module(name)
    except (ModuleNotFoundError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UsageError(f"{name} failed while it was imported:\n{user_traceback(error)}") from error
    finally:
        _loading.reset(loading)


def _job_in(module: ModuleType, name: str, shown: str) -> Any:
    """The job that `name` means in a module: the class of that name; without a name the module itself if it has a
    map, else its only job class (stages of another one do not count)."""
    classes = _job_classes(module)
    known = ", ".join(classes) or "none"
    if name:
        found = getattr(module, name, None)
        if found is None or isinstance(found, ModuleType):
            raise UsageError(f"{shown} has no job {name}; the job classes in it are: {known}")
        return found
    if any(inspect.isfunction(getattr(module, door, None)) for door in DOORS):
        return module
    later = [stage for cls in classes.values() for stage in _stages_listed(cls)]
    first = [cls for cls in classes.values() if cls not in later]
    if len(first) != 1:
        count = "no job: neither a function `map` nor a class with one" if not classes else f"several jobs: {known}"
        hint = f"; say which one, as {shown}:{next(iter(classes))}" if classes else ""
        raise UsageError(f"{shown} has {count}{hint}")
    return first[0]


def _stages_listed(cls: type) -> list[type]:
    then = getattr(cls, "then", None)
    stages = then if isinstance(then, (list, tuple)) else [then]
    return [stage if inspect.isclass(stage) else type(stage) for stage in stages]


def _job_classes(module: ModuleType) -> dict[str, type]:
    """Classes made in this module that have a map."""
    return {
        name: cls
        for name, cls in vars(module).items()
        if inspect.isclass(cls)
        and cls is not Job
        and cls.__module__ == module.__name__
        and not name.startswith("_")
        and any(hasattr(cls, door) for door in DOORS)
    }
