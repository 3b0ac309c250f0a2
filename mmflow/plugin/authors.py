"""Mistakes of plugin authors that show before anything runs: hooks, kinds, the signature of `build`, plain results."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Final

from mmflow.plugin.component import Component, ComponentError, with_article
from mmflow.plugin.hooks import Specifications

_HOOKS: Final = tuple(name for name in vars(Specifications) if name.startswith("mmflow_"))
_WRONG_KINDS: Final = {
    "evaluator": "stage", "metric": "stage", "dataset": "source", "data": "source", "model": "encoder",
    "augmentation": "transform", "view": "transform", "head": "encoder", "similarity": "score",
}  # fmt: skip
"""Words that stand for a kind elsewhere."""

_RESULTS: Final = {
    "stage": ("EvaluationResult", "return EvaluationResult([Metric(name, value), ...])"),
    "loss": ("a tensor", "return a tensor: one value a row [N], or their mean"),
}
"""By kind, the result of its method and how to give it."""


def place_of(made: object) -> str:
    """The file and line of a function, class or module; its name where they are not known."""
    if not (inspect.isroutine(made) or inspect.isclass(made) or inspect.ismodule(made)):
        return type(made).__name__
    try:
        file, line = inspect.getsourcefile(made), inspect.getsourcelines(made)[1]
    except (OSError, TypeError):
        return getattr(made, "__name__", "unknown")
    return f"{file}:{max(1, line)}"


def hook_fault(plugin: object) -> str:
    """Why a plugin takes no part, or not as it is meant; empty where its hooks are right."""
    marked = [name for name in dir(plugin) if getattr(getattr(plugin, name), "mmflow_impl", None) is not None]
    for name in marked:
        if name not in _HOOKS:
            near = difflib.get_close_matches(name, _HOOKS, n=1, cutoff=0.5)
            meant = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(_HOOKS)}"
            return f"there is no hook {name} ({place_of(getattr(plugin, name))}); {meant}"
    for name in _HOOKS:
        function = getattr(plugin, name, None)
        if callable(function) and name not in marked:
            return f"{name} ({place_of(function)}) is not marked; write @hookimpl of mmflow.plugin above it"
    if not marked:
        return f"{place_of(plugin)} has no hook; write a function mmflow_components with @hookimpl of mmflow.plugin"
    return ""


def kind_fault(kind: str, name: str) -> str:
    """Why a kind that no class opens is taken for a mistake; empty for a kind that a plugin may open itself."""
    known = sorted({opened.kind for opened in Component.__subclasses__() if opened.kind})
    if kind in known:
        return ""
    meant = _WRONG_KINDS.get(kind) or next(iter(difflib.get_close_matches(kind, known, n=1, cutoff=0.7)), None)
    return f"{kind}/{name}: there is no kind {kind!r}; write {meant}/{name}" if meant else ""


def check_code(component: type[Component]) -> None:
    """Hold `build` and the results of a component's method against its kind; raises `ComponentError`."""
    build = getattr(component, "build", None)
    label = f"{component.kind} {component.use!r}"
    if build is not None:
        _check_build(component, build, label)
    method = getattr(component, component.method, None) if component.method else None
    if method is None or component.kind not in _RESULTS:
        return
    expected, hint = _RESULTS[component.kind]
    for found in _plain_results(method):
        raise ComponentError(
            f"{label}: {component.method}() of {component.__name__} ({place_of(method)}) returns {with_article(found)}",
            found=found, expected=expected, hint=hint,
        )  # fmt: skip


def _check_build(component: type[Component], build: Callable[..., object], label: str) -> None:
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return
    names = [parameter.name for parameter in parameters if parameter.name != "self"]
    rest = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    where = f"{label}: build() of {component.__name__} ({place_of(build)})"
    if component.kind == "encoder" and "state" not in names and not rest:
        raise ComponentError(
            f"{where} lacks the argument `state`", found=", ".join(names) or "no argument",
            expected="build(self, *inputs, state)", hint="`state` is what `learn` has learned, {} without it",
        )  # fmt: skip


def _plain_results(method: Callable[..., object]) -> Iterator[str]:
    """The plain types that a method says it returns, or returns as a literal."""
    returned = inspect.get_annotations(method).get("return", "")
    said = returned if isinstance(returned, str) else getattr(returned, "__name__", "")
    word = said.partition("[")[0]
    if word in ("dict", "float", "int", "list"):
        yield word
        return
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError):
        return
    for node in _own_returns(tree.body[0]):
        match node.value:
            case ast.Dict() | ast.DictComp():
                yield "dict"
            case ast.Call(func=ast.Name(id="float" | "int" | "dict" as name)):
                yield name
            case ast.Call(func=ast.Attribute(attr="item")):
                yield "float"
            case ast.Constant(value=float() | int()):
                yield "float"
            case _:
                continue


def _own_returns(function: ast.AST) -> Iterator[ast.Return]:
    """The `return` statements of a function, without those of functions inside it."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Return):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
