"""A Modal function: the decorator of a Python file, read and never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeAlias

from vlcheck.config.foreign.not_configs import is_modal
from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.launch.image import requirement_of
from vlcheck.launch.job import Job, Mount, Placed, Requirement, Storage
from vlcheck.launch.quantities import cpus, mebibytes, seconds, text, whole
from vlcheck.launch.scripts import name_of, parsed
from vlcheck.launch.tree import Tree
from vlcheck.spec import ConfigError, Location, Problem

NAME = "Modal function"
RECOGNISED_BY = "a Python file with `@app.function(gpu=...)`"
Names: TypeAlias = dict[str, ast.expr]
recognises = is_modal


def read(script: str, file: str) -> Job:
    """The first function of a file that asks for a card; the first of all where none does.

    Raises:
        ConfigError: if the file is no Python or has no function, or a value cannot be what it must be.
    """
    try:
        tree = parsed(script)
    except ValueError as wrong:
        raise ConfigError(Problem(Location(file), str(wrong)[:300])) from None
    names = dict(_assigned(tree))
    calls = [(_unrolled(call, names), function) for call, function in _decorators(tree)]
    if not calls:
        raise ConfigError(Problem(Location(file), f"has no Modal function; allowed: {RECOGNISED_BY}"))
    call, function = next((each for each in calls if _keyword(each[0], "gpu") is not None), calls[0])
    where = Location(file, call.lineno, call.col_offset + 1)

    def told(name: str) -> Tree:
        value = _keyword(call, name)
        if value is None:
            return Tree(None, {"": where})
        place = Location(file, value.lineno, value.col_offset + 1, name)
        return Tree(_plain(value, names), {"": place, name: place}, name)

    image = _chain(_keyword(call, "image") or _image_of_app(tree), names)
    gpu, count = _card(told("gpu"))
    memory, cpu = told("memory"), told("cpu")
    env = dict(_variables(image, names, file))
    whole_call = all(word.arg is not None for word in call.keywords)
    return Job(
        platform="modal",
        where=where,
        whole=whole_call,
        gpu=gpu,
        gpu_count=count,
        cpu=(cpu / 0 if isinstance(cpu.value, list) else cpu).read(cpus),
        memory_bytes=(memory / -1 if isinstance(memory.value, list) else memory).read(mebibytes),
        disk_bytes=told("ephemeral_disk").read(mebibytes),
        timeout_seconds=told("timeout").read(seconds),
        retries=_retries(call, names, file) or told("retries").read(whole),
        region=told("region").read(text) if isinstance(told("region").value, str) else None,
        image=next(_based(image, names, file), None),
        command=tuple(_command(function, file)),
        env=env,
        secrets=("modal.Secret",) if _keyword(call, "secrets") is not None else (),
        mounts=tuple(_mounts(_keyword(call, "volumes"), names, file)),
        mounts_told=whole_call,
        requirements=tuple(_installed(image, names, file)),
        remarks=() if whole_call else ("what the decorator unpacks (**) is known only when the file runs",),
    )


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they are assigned, at the file's top or in a branch of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def _decorators(tree: ast.Module) -> Iterator[tuple[ast.Call, ast.AST]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and name_of(decorator.func) in ("function", "cls"):
                    yield decorator, node


def _unrolled(call: ast.Call, names: Names) -> ast.Call:
    """A call with the keywords of the literal mappings that it unpacks; one that is none stays as it is."""
    words: list[ast.keyword] = []
    for word in call.keywords:
        held = names.get(word.value.id) if isinstance(word.value, ast.Name) else word.value
        if word.arg is None and isinstance(held, ast.Call) and name_of(held.func) == "dict" and not held.args:
            words += held.keywords
        elif word.arg is None and isinstance(held, ast.Dict):
            words += [
                ast.keyword(key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None, value)
                for key, value in zip(held.keys, held.values, strict=True)
            ]
        else:
            words.append(word)
    return ast.copy_location(ast.Call(call.func, call.args, words), call)


def _image_of_app(tree: ast.Module) -> ast.expr | None:
    """The image of `modal.App(image=...)`, which functions without one of their own have."""
    apps = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and name_of(node.func) in ("App", "Stub"))
    return next((image for app in apps if (image := _keyword(app, "image")) is not None), None)


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def _plain(value: ast.expr, names: Names, depth: int = 0) -> Json:
    """A literal, a name of one at the file's top, a sum or product of them; None for what only running would tell."""
    if isinstance(value, ast.Name) and value.id in names and depth < 8:
        return _plain(names[value.id], names, depth + 1)
    if isinstance(value, ast.Constant) and isinstance(value.value, bool | int | float | str):
        return value.value
    if isinstance(value, ast.List | ast.Tuple) and depth < 8:
        return [_plain(each, names, depth + 1) for each in value.elts]
    if isinstance(value, ast.Call) and _is_card(value.func):  # modal.gpu.H100(count=2), before Modal 1.0
        count = _keyword(value, "count")
        return f"{name_of(value.func)}:{_plain(count, names, depth + 1) if count is not None else 1}"
    return _computed(value, names, depth) if isinstance(value, ast.BinOp) and depth < 8 else None


def _computed(value: ast.BinOp, names: Names, depth: int) -> Json:
    left, right = (_plain(each, names, depth + 1) for each in (value.left, value.right))
    if not isinstance(left, int | float) or not isinstance(right, int | float) or max(abs(left), abs(right)) >= 10**9:
        return None
    if isinstance(value.op, ast.Mult):
        return left * right
    return left + right if isinstance(value.op, ast.Add) else None


def _is_card(function: ast.expr) -> bool:
    """Whether `modal.gpu.H100` or its like is called."""
    return isinstance(function, ast.Attribute) and name_of(function.value) == "gpu"


def _card(asked: Tree) -> tuple[Placed[str] | None, Placed[int] | None]:
    """`"H100"`, `"H100:2"`, or a list of these, of which the first is preferred."""
    said = (asked / 0 if isinstance(asked.value, list) else asked).value
    if not isinstance(said, str) or not said:
        return None, None
    name, colon, count = said.partition(":")
    if colon and not count.isdecimal():
        raise ConfigError(
            Problem(asked.where, f"gpu is {quoted(said)}; allowed: a card, or a card and a count (H100:2)")
        )
    return Placed(name, asked.where), Placed(int(count[:6]) if colon else 1, asked.where)


def _retries(call: ast.Call, names: Names, file: str) -> Placed[int] | None:
    """`modal.Retries(max_retries=...)`."""
    value = _keyword(call, "retries")
    if not isinstance(value, ast.Call) or name_of(value.func) != "Retries":
        return None
    most = _keyword(value, "max_retries") or (value.args[0] if value.args else None)
    count = _plain(most, names) if most is not None else None
    return Tree(count, {"": Location(file, value.lineno, value.col_offset + 1, "retries")}).read(whole)


def _mounts(volumes: ast.expr | None, names: Names, file: str) -> Iterator[Mount]:
    if isinstance(volumes, ast.Name):
        volumes = names.get(volumes.id)
    if not isinstance(volumes, ast.Dict):
        return
    for key, value in zip(volumes.keys, volumes.values, strict=True):
        path = _plain(key, names) if key is not None else None
        made = names.get(value.id, value) if isinstance(value, ast.Name) else value
        storage: Storage = "bucket" if _calls(made, "CloudBucketMount") else "volume"
        if isinstance(path, str):
            yield Mount(path, storage, Location(file, value.lineno, value.col_offset + 1, "volumes"))


def _calls(made: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Call) and name_of(node.func) == name for node in ast.walk(made))


def _chain(image: ast.expr | None, names: Names) -> list[ast.Call]:
    """The calls that make an image, the first one first."""
    calls: list[ast.Call] = []
    for _ in range(60):
        if isinstance(image, ast.Name):
            image = names.get(image.id)
        elif isinstance(image, ast.Call):
            calls.append(image)
            image = image.func.value if isinstance(image.func, ast.Attribute) else None
        else:
            break
    return calls[::-1]


def _texts(call: ast.Call, names: Names) -> Iterator[tuple[str, int]]:
    for argument in call.args:
        held = names.get(argument.id, argument) if isinstance(argument, ast.Name) else argument
        for node in ast.walk(held):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value, node.lineno


def _installed(image: list[ast.Call], names: Names, file: str) -> Iterator[Requirement]:
    for call in image:
        if name_of(call.func) in ("pip_install", "uv_pip_install"):
            for word, line in _texts(call, names):
                if (requirement := requirement_of(word, Location(file, line))) is not None:
                    yield requirement


def _based(image: list[ast.Call], names: Names, file: str) -> Iterator[Placed[str]]:
    for call in image:
        if name_of(call.func) in ("from_registry", "from_aws_ecr", "from_gcp_artifact_registry"):
            yield from (Placed(word, Location(file, line)) for word, line in list(_texts(call, names))[:1])


def _variables(image: list[ast.Call], names: Names, file: str) -> Iterator[tuple[str, Placed[str]]]:
    for call in image:
        if name_of(call.func) == "env" and call.args and isinstance(call.args[0], ast.Dict):
            for key, value in zip(call.args[0].keys, call.args[0].values, strict=True):
                name, held = (_plain(each, names) if each is not None else None for each in (key, value))
                if isinstance(name, str) and isinstance(held, str):
                    yield name, Placed(held, Location(file, value.lineno, value.col_offset + 1))


def _command(function: ast.AST, file: str) -> Iterator[Placed[str]]:
    """Words of the first command that the function runs as a process of its own."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and name_of(node.func) in ("run", "check_call", "Popen", "system") and node.args:
            words = [each for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
            for word in words:
                if isinstance(word.value, str):
                    place = Location(file, word.lineno, word.col_offset + 1)
                    yield from (Placed(part, place) for part in word.value.split())
            return
