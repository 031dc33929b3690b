"""Follow every use of TensorRT in a source file and check it against the real bindings.

Runs in an interpreter of its own that can import tensorrt_bindings:

    python api_use.py FILE... -> JSON {"version", "checked": [...], "faults": [...]}

The walker gives each expression a TensorRT type where it has one: the module, a class, an enum, an instance (from a
constructor, a method's or property's documented return type, or an annotation `trt.X`), and checks each attribute,
each call's positional count and keyword names, and each assigned property on the way. Functions named *_trt10 or
*_trt11 are checked only against that major.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

FOREIGN = {"nvonnxparser::IParserError": "ParserError"}
"""C++ names that the docstrings leave unresolved -> the class the bindings register."""


@dataclass(frozen=True)
class Instance:
    """A value of a TensorRT class."""

    of: type


@dataclass(frozen=True)
class Function:
    """A function or method with its documented signatures."""

    name: str
    document: str
    bound: bool


class Walker(ast.NodeVisitor):
    """One file. `names` maps local names to TensorRT values, `fields` those of self."""

    def __init__(self, module: ModuleType, file: str) -> None:
        self.module = module
        self.major = module.__version__.split(".")[0]
        self.file = file
        self.names: dict[str, Any] = {}
        self.fields: dict[str, Any] = {}
        self.checked: set[str] = set()
        self.faults: list[str] = []

    def fault(self, node: ast.AST, message: str) -> None:
        self.faults.append(f"{self.file}:{getattr(node, 'lineno', 0)}: {message}")

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name == "tensorrt":
                self.names[alias.asname or alias.name] = self.module

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if (node.module or "").split(".")[0] == "tensorrt":
            self.fault(node, "import names one by one escapes this check; use `import tensorrt as trt`")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.fields = {}
        first = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        for item in (*first, *(item for item in node.body if item not in first)):
            self.visit(item)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        marked = re.search(r"_trt(\d+)$", node.name)
        if marked and marked.group(1) != self.major:
            return
        outer = dict(self.names)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            self.names.pop(argument.arg, None)
            kind = self.type_of(argument.annotation) if argument.annotation is not None else None
            if isinstance(kind, type):
                self.names[argument.arg] = Instance(kind)
        for statement in node.body:
            self.visit(statement)
        self.names = outer

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.type_of(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.names[target.id] = value
            elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                self.fields[target.attr] = value
            else:
                self.assign_property(target)

    def assign_property(self, target: ast.expr) -> None:
        base = self.type_of(target.value) if isinstance(target, ast.Attribute) else None
        self.type_of(target)
        if isinstance(base, Instance) and isinstance(target, ast.Attribute):
            found = inspect.getattr_static(base.of, target.attr, None)
            if not isinstance(found, property) or found.fset is None:
                self.fault(target, f"{base.of.__name__}.{target.attr} cannot be assigned")

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self.type_of(node)
        else:
            super().generic_visit(node)

    def type_of(self, node: ast.expr) -> Any:
        """The TensorRT value of an expression, None for anything else. Checks everything below it."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.IfExp):
            self.type_of(node.test)
            kinds = [kind for kind in (self.type_of(node.body), self.type_of(node.orelse)) if kind is not None]
            return kinds[0] if kinds else None
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            super().generic_visit(node)  # visits the element expressions, which come back here
            return None
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.type_of(child)
        return None

    def attribute(self, node: ast.Attribute) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return self.fields.get(node.attr)
        base = self.type_of(node.value)
        if base is None:
            return None
        owner = base.of if isinstance(base, Instance) else base
        if isinstance(owner, Function):
            self.fault(node, f"attribute {node.attr} of the function {owner.name}")
            return None
        name = f"{getattr(owner, '__name__', owner)}.{node.attr}"
        if not hasattr(owner, node.attr):
            self.fault(node, f"{name} does not exist in TensorRT {self.module.__version__}")
            return None
        self.checked.add(name)
        return self.member(owner, node.attr, name, isinstance(base, Instance))

    def member(self, owner: Any, attribute: str, name: str, on_instance: bool) -> Any:
        found = getattr(owner, attribute)
        if isinstance(found, property):
            return self.returned(found.fget.__doc__ or "", None) if on_instance else None
        if isinstance(found, type):
            return found
        if callable(found):
            return Function(name, found.__doc__ or "", on_instance)
        return None

    def call(self, node: ast.Call) -> Any:
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.type_of(argument)
        called = self.type_of(node.func)
        if isinstance(called, type):
            self.arguments(node, Function(called.__name__, called.__init__.__doc__ or "", True))
            return Instance(called)
        if isinstance(called, Function):
            self.arguments(node, called)
            return self.returned(called.document, node)
        return None

    def arguments(self, node: ast.Call, called: Function) -> None:
        """One documented overload must take this many positional arguments and these keywords."""
        overloads = [parameters(line) for line in signatures(called.document)]
        given = len(node.args)
        names = {keyword.arg for keyword in node.keywords}
        for listed in overloads:
            listed = [p for p in listed if p[0] != "self"] if called.bound else listed
            needed = {name for name, optional in listed[given:] if not optional}
            if given <= len(listed) and needed <= names <= {name for name, _ in listed[given:]}:
                self.checked.add(f"{called.name}({given}{''.join(f', {n}=' for n in sorted(map(str, names)))})")
                return
        if overloads:
            self.fault(
                node, f"{called.name} takes {overloads}, received {given} positional and {sorted(map(str, names))}"
            )

    def returned(self, document: str, node: ast.AST | None) -> Any:
        """Instance of the class named behind '->', where it is one of TensorRT's. One that cannot be resolved is a
        fault: what is done with it would escape."""
        for line in document.splitlines():
            found = re.search(r"-> ([\w.:]+)", line)
            if found:
                full = found.group(1)
                kind = getattr(self.module, FOREIGN.get(full, full.split(".")[-1]), None)
                if node is not None and kind is None and ("tensorrt" in full or "::" in full):
                    self.fault(node, f"cannot resolve the returned type {full}")
                return Instance(kind) if isinstance(kind, type) else None
        return None


def signatures(document: str) -> list[str]:
    """Lines of a pybind11 docstring that are signatures, without the '(*args, **kwargs)' placeholder."""
    return [
        line for line in document.splitlines() if re.match(r"^(\d+\. )?\w+\(.*\) -> ", line) and "*args" not in line
    ]


def parameters(signature: str) -> list[tuple[str, bool]]:
    """[(name, has a default)] of one signature line."""
    inside = signature[signature.index("(") + 1 : signature.rindex(") -> ")]
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(inside + ","):
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and depth == 0:
            parts.append(inside[start:at].strip())
            start = at + 1
    return [(part.split(":")[0].strip(), "=" in part) for part in parts if part]


def main(files: list[str]) -> None:
    import tensorrt_bindings

    checked: set[str] = set()
    faults: list[str] = []
    for file in files:
        walker = Walker(tensorrt_bindings, Path(file).name)
        walker.visit(ast.parse(Path(file).read_text(encoding="utf-8")))
        checked |= walker.checked
        faults += walker.faults
    report = {"version": tensorrt_bindings.__version__, "checked": sorted(checked), "faults": faults}
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
