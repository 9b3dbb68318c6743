"""Do the checks of the exercises notice a changed answer? `python scripts/mutants.py 03 05`.

Each right answer is changed in one place after another: an operator, a constant, a call, a name.
Such a mutant that computes something else has to be refused. Without a lesson: all of them. The
counts go to reports/mutants.json and reports/mutants.md; scripts/mutants.toml says, by hand, why a
mutant may pass.
"""

import argparse
import ast
import copy
import difflib
import hashlib
import importlib
import inspect
import json
import math
import os
import textwrap
import tomllib
from pathlib import Path

from aecourse.data.store import atomic_write
from aecourse.exercises import CASES, OFF, SECONDS, Exercise, TooSlow, time_limit

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
LESSONS = ROOT / "aecourse" / "exercises"
REPORT = ROOT / "reports" / "mutants.json"
JUDGED = Path(__file__).with_suffix(".toml")
MOST_CALLS = 300  # of an answer that are repeated to tell whether a mutant is another function

_BINARY = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Pow: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_COMPARED = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_PAIRS = [
    "sum mean",
    "max min",
    "amax amin",
    "argmax argmin",
    "std var",
    "exp log",
    "floor ceil",
    "zeros ones",
    "rand randn",
    "rand_like randn_like",
    "train eval",
    "sqrt square",
    "any all",
]
_TWINS = {a: b for pair in map(str.split, _PAIRS) for a, b in (pair, pair[::-1])}


# -- mutants of a function -------------------------------------------------------------------------


def mutants_of(function) -> dict:
    """{what was changed: the function with this change} of a function of a module."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    before, nodes, found = ast.unparse(tree).splitlines(), list(ast.walk(tree.body[0])), {}
    names = _names(tree.body[0], function)
    for index, node in enumerate(nodes):
        for new in _changes(node, names, function.__globals__):
            changed = copy.deepcopy(tree)
            old = list(ast.walk(changed.body[0]))[index]
            _Replaced(old, new).visit(changed)
            after = ast.unparse(changed).splitlines()
            lines = list(difflib.ndiff(before, after))
            sides = [[line[2:].strip() for line in lines if line[0] == side] for side in "-+"]
            what = " → ".join(" / ".join(side) or "(nothing)" for side in sides)
            if after == before or what in found:
                continue
            namespace = dict(function.__globals__)
            try:
                exec(compile("\n".join(after), "<mutant>", "exec"), namespace)
            except SyntaxError:
                continue
            found[what] = namespace[function.__name__]
    return found


class _Replaced(ast.NodeTransformer):
    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit(self, node):
        return copy.deepcopy(self.new) if node is self.old else self.generic_visit(node)


def _names(tree, function):
    """The function's own variables, and the strings that it knows."""
    words = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    words = list(dict.fromkeys(word for word in words if isinstance(word, str)))
    code = function.__code__
    return list(code.co_varnames + code.co_cellvars), words


def _changes(node, names, namespace):
    """Nodes to put in the place of this one, each a small mistake."""
    variables, words = names
    if isinstance(node, ast.Constant):
        yield from map(ast.Constant, _constants(node.value, words))
    elif isinstance(node, ast.BinOp):
        if type(node.op) in _BINARY:
            yield ast.BinOp(node.left, _BINARY[type(node.op)](), node.right)
        if isinstance(node.op, ast.Sub | ast.Div | ast.Pow | ast.MatMult):
            yield ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for op in _COMPARED.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [op()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values)
        yield from node.values
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.If):
        yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.Call):
        yield from _calls(node, namespace)
    elif isinstance(node, ast.Attribute) and node.attr in _TWINS:
        yield ast.Attribute(node.value, _TWINS[node.attr], node.ctx)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in variables:
        other = variables[(variables.index(node.id) + 1) % len(variables)]
        yield ast.Name(other, ast.Load())
    elif isinstance(node, ast.Return) and node.value:
        yield ast.Return(ast.UnaryOp(ast.USub(), node.value))
        yield ast.Return(ast.Call(ast.Attribute(node.value, "detach", ast.Load()), [], []))
        if isinstance(node.value, ast.Tuple):
            yield ast.Return(ast.Tuple(node.value.elts[::-1], ast.Load()))
    elif isinstance(node, ast.Expr | ast.AugAssign) or (
        isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple)
    ):
        if not isinstance(getattr(node, "value", None), ast.Constant):
            yield ast.Pass()
    elif isinstance(node, ast.With):
        yield ast.If(ast.Constant(True), node.body, [])


def _constants(value, words):
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, float):
        yield from (2 * value or 1.0, value / 2)
    elif isinstance(value, str) and len(words) > 1:
        yield words[(words.index(value) + 1) % len(words)]


def _calls(node, namespace):
    """The call dropped, its first two arguments exchanged, one of them dropped."""
    root = node.func
    while isinstance(root, ast.Attribute):
        root = root.value
    of_module = isinstance(root, ast.Name) and inspect.ismodule(namespace.get(root.id))
    if isinstance(node.func, ast.Attribute) and not of_module:
        yield node.func.value
    elif node.args and not isinstance(node.args[0], ast.Starred):
        yield node.args[0]
    if len(node.args) >= 2:
        swapped = [node.args[1], node.args[0], *node.args[2:]]
        yield ast.Call(node.func, swapped, node.keywords)
        yield ast.Call(node.func, node.args[:-1], node.keywords)
    for keyword in node.keywords:
        rest = [other for other in node.keywords if other is not keyword]
        yield ast.Call(node.func, node.args, rest)


# -- mutants of a value, and of a study ------------------------------------------------------------


def mutants_of_value(value, of_study=False) -> dict:
    """{what was changed: the value with this change}.

    of_study: the numbers in it are measurements, of which others may be as right; NaN is not.
    """
    found = {}
    for path, part in _parts(value):
        if of_study and path[:1] == ("settings",) and path[1:]:
            continue  # what was varied can be anything
        for what, new in _changed_parts(part, of_study):
            place = "".join(f"[{key!r}]" for key in path) or "the answer"
            found[f"{place}: {what}"] = _put(value, path, new)
    return found


def _parts(value, path=()):
    yield path, value
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _parts(part, (*path, key))


def _put(value, path, new):
    if not path:
        return new
    entries = dict(value) if isinstance(value, dict) else dict(enumerate(value))
    entries[path[0]] = _put(entries[path[0]], path[1:], new)
    return entries if isinstance(value, dict) else type(value)(entries.values())


def _changed_parts(part, of_study):
    if isinstance(part, dict):
        for key in part:
            yield f"without {key!r}", {k: v for k, v in part.items() if k != key}
        words = [key for key, entry in part.items() if isinstance(entry, str)]
        for a, b in zip(words, words[1:]):
            if part[a] != part[b]:
                yield f"{a!r} and {b!r} exchanged", part | {a: part[b], b: part[a]}
                yield f"{a!r} as {b!r}", part | {a: part[b]}
    elif isinstance(part, list | tuple) and part:
        yield "one entry less", part[:-1]
        if not of_study and len(set(map(repr, part))) > 1:
            yield "reversed", part[::-1]
    elif isinstance(part, str):
        yield "no word", ""
    elif isinstance(part, bool):
        yield "not", not part
    elif isinstance(part, int | float):
        yield "NaN", math.nan
        if not of_study:
            yield from (("one more", part + 1), ("one less", part - 1), ("the sign", -part))
    elif callable(part):
        yield "always true", lambda *lists: True
        yield "always false", lambda *lists: False
        yield "true of these numbers only", _exactly()
        count = len(inspect.signature(part).parameters)
        for k in range(count if count > 1 else 0):
            yield f"of argument {k} alone", _of_one(part, k)


def _exactly():
    seen = []

    def holds(*lists):
        seen.append(copy.deepcopy(lists))
        return lists == seen[0]

    return holds


def _of_one(part, k):
    """The function, its other arguments those of the first call."""
    seen = []

    def holds(*lists):
        seen.append(copy.deepcopy(lists))
        return part(*seen[0][:k], lists[k], *seen[0][k + 1 :])

    return holds


# -- whether a mutant is another function ----------------------------------------------------------


class Calls:
    """The calls that a check makes of an answer, and of the functions that it returns."""

    def __init__(self, exercise, answer):
        self.calls, self.made = [], 0
        said = exercise.judge(self._noting(answer, ()), range(2 * CASES))
        if said.state != "right":
            raise RuntimeError(f"the check refuses its own answer: {said}")

    def _noting(self, value, place):
        if type(value) in (tuple, list):
            return type(value)(self._noting(v, (*place, i)) for i, v in enumerate(value))
        if not callable(value) or isinstance(value, type | nn.Module):
            return value

        def call(*args):
            number, self.made = self.made, self.made + 1
            given, state = _copied(args), _random_state()
            returned = value(*args)
            if len(self.calls) < MOST_CALLS:
                self.calls.append((number, place, given, state, _frozen(returned, args)))
            return self._noting(returned, (number,))

        return call

    def same(self, mutant) -> bool:
        """Whether the mutant does in all of these calls what the answer did."""
        returned = {(): mutant}
        try:
            with time_limit(5 * SECONDS):
                for number, place, given, state, wanted in self.calls:
                    function = returned[place[:1]]
                    for key in place[1:]:
                        function = function[key]
                    args = _copied(given)
                    _random_state(state)
                    returned[(number,)] = function(*args)
                    if not _agree(_frozen(returned[(number,)], args), wanted):
                        return False
        except (Exception, TooSlow):
            return False
        return True


def _random_state(state=None):
    if state is not None:
        torch.set_rng_state(state[0])
        np.random.set_state(state[1])
    return torch.get_rng_state(), np.random.get_state()


def _copied(args):
    """A deep copy: models and optimizers of one call stay together."""
    memo = {}
    for value in args:
        if isinstance(value, torch.Tensor):
            memo[id(value)] = value.detach().clone().requires_grad_(value.requires_grad)
    return copy.deepcopy(args, memo)


def _frozen(returned, args):
    """What a call returned, with its gradients, and what it left of its arguments, as a list."""
    leaves = [v for v in args if isinstance(v, torch.Tensor) and v.requires_grad]
    leaves += [p for v in args if isinstance(v, nn.Module) for p in v.parameters()]
    found = []

    def keep(value):
        if isinstance(value, torch.Tensor):
            found.extend([value.requires_grad, _array(value)])
            if value.requires_grad and leaves:
                gradients = torch.autograd.grad(
                    value.sum(), leaves, retain_graph=True, allow_unused=True
                )
                found.extend(None if g is None else _array(g) for g in gradients)
        elif isinstance(value, np.ndarray | np.generic | bool | int | float):
            found.append(_array(torch.as_tensor(np.array(value))))
        elif isinstance(value, dict | list | tuple):
            found.append((len(value), sorted(map(repr, value)) if isinstance(value, dict) else 0))
            for part in value.values() if isinstance(value, dict) else value:
                keep(part)
        elif isinstance(value, nn.Module):
            found.append(value.training)
            for parameter in value.parameters():
                gradient = parameter.grad
                found.extend([_array(parameter), None if gradient is None else _array(gradient)])
        else:
            found.append(value if isinstance(value, str | None) else type(value).__name__)

    keep(returned)
    for value in args:
        keep(value.detach() if isinstance(value, torch.Tensor) else value)
    return found


def _array(tensor):
    kind = np.complex128 if tensor.is_complex() else np.float64
    return tensor.detach().cpu().numpy().astype(kind)


def _agree(a, b):
    if len(a) != len(b):
        return False
    for one, other in zip(a, b):
        if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
            if type(one) is not type(other) or one != other:
                return False
        elif one.shape != other.shape or not np.allclose(
            one, other, rtol=0, atol=1e-6 * (np.abs(other).max(initial=0) or 1), equal_nan=True
        ):
            return False
    return True


# -- counting --------------------------------------------------------------------------------------


def exercises_of(lesson: str) -> dict[str, Exercise]:
    """The exercises of a lesson, by name: `exercises_of("03")`."""
    module = importlib.import_module(f"aecourse.exercises.lesson_{lesson}")
    return {name: v for name, v in vars(module).items() if isinstance(v, Exercise)}


def mutants(exercise: Exercise) -> list[tuple[str, object, object]]:
    """(what was changed, the mutant, the answer that it was made from) of an exercise.

    The answers are the right one and those alternatives that are functions of a module. Of a study
    only the dict that an alternative gives is changed: nothing is trained.
    """
    if exercise.trains() or not callable(exercise.answer):
        answer = exercise.alternatives[0] if exercise.trains() else exercise.answer
        answer = answer() if callable(answer) else answer
        found = mutants_of_value(answer, exercise.trains())
        return [(what, mutant, None) for what, mutant in found.items()]
    answers = [exercise.answer]
    for other in exercise.alternatives:
        if inspect.isfunction(other) and other.__name__ != "<lambda>" and not other.__closure__:
            answers.append(other)
    return [
        (what if answer is exercise.answer else f"{answer.__name__}: {what}", mutant, answer)
        for answer in answers
        for what, mutant in mutants_of(answer).items()
    ]


def count(exercise: Exercise, most=None) -> dict:
    """How many mutants (the first `most`) compute the same, are refused, pass."""
    found = {"mutants": 0, "same": 0, "refused": 0, "raised": 0, "survivors": []}
    calls = {}
    for what, mutant, answer in mutants(exercise)[:most]:
        outcome = exercise.check(mutant)
        found["mutants"] += 1
        if outcome.state == "not right":
            found["refused"] += 1
            found["raised"] += "this was raised" in outcome.text
            continue
        if outcome.state != "right":
            found["survivors"].append(f"{what} (the check fails)")
            continue
        if answer and answer not in calls:
            calls[answer] = Calls(exercise, answer)
        if answer and calls[answer].same(mutant):
            found["same"] += 1
        else:
            found["survivors"].append(what)
    return found


def share(lesson: dict) -> float:
    """The share of the mutants that compute something else which is refused."""
    rows = lesson["exercises"].values()
    return sum(r["refused"] for r in rows) / sum(r["mutants"] - r["same"] for r in rows)


def hash_of(lesson: str) -> str:
    """The first 16 digits of the SHA-256 of a lesson's exercises and of what checks them."""
    names = (f"lesson_{lesson}", "__init__", "inputs")
    texts = [(LESSONS / f"{name}.py").read_bytes() for name in names]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:16]


def load() -> dict:
    """{lesson: {"source": its hash, "exercises": {name: counts}}}"""
    return json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}


def judged() -> dict[str, dict[str, str]]:
    """{"03.occlusion": {what was changed: why it may pass}}"""
    return tomllib.loads(JUDGED.read_text(encoding="utf-8"))


def table(report: dict) -> str:
    """The report as Markdown."""
    lines = [
        "# Mutants",
        "",
        "Right answers of the exercises, each changed in one place, and how many of these mutants "
        "the checks refuse. A mutant that computes the same on all inputs does not count. Made by "
        "`python scripts/mutants.py`, not by hand.",
        "",
        "| exercise | mutants | compute the same | refused | of these, raised an error | pass |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    why, survivors = judged(), []
    for lesson, counts in sorted(report.items()):
        for name, row in sorted(counts["exercises"].items()):
            numbers = [row[key] for key in ("mutants", "same", "refused", "raised")]
            numbers = [f"{lesson}.{name}", *numbers, len(row["survivors"])]
            lines.append(f"| {' | '.join(map(str, numbers))} |")
            reasons = why.get(f"{lesson}.{name}", {})
            survivors += [
                f"- {lesson}.{name}: `{what}`: {reasons.get(what, 'not judged')}"
                for what in row["survivors"]
            ]
        lines.append(f"| **lesson {lesson}** | | | **{100 * share(counts):.1f} %** | | |")
    return "\n".join([*lines, "", "## Mutants that pass", "", *survivors])


def save(lesson: str, counts: dict) -> None:
    """Put a lesson's counts into the report; those of the others stay as they are."""
    report = load() | {lesson: counts}
    for path, text in (
        (REPORT, json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False)),
        (REPORT.with_suffix(".md"), table(report)),
    ):
        with atomic_write(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lessons", nargs="*", help="03 05: only these")
    parser.add_argument("--least", type=float, default=0.9, help="the share that is enough")
    arguments = parser.parse_args(argv)
    lessons = sorted(path.stem[-2:] for path in LESSONS.glob("lesson_*.py"))
    os.environ[OFF], shares = "off", []  # these checks are nobody's progress
    for lesson in arguments.lessons or lessons:
        counts = {"source": hash_of(lesson), "exercises": {}}
        for name, exercise in exercises_of(lesson).items():
            row = counts["exercises"][name] = count(exercise)
            print(f"{lesson}.{name}: {row['refused']} of {row['mutants'] - row['same']} refused")
            reasons = judged().get(f"{lesson}.{name}", {})
            for what in row["survivors"]:
                key = json.dumps(what, ensure_ascii=False)
                print(f"  {key} = {json.dumps(reasons.get(what, ''))}")
        save(lesson, counts)
        shares.append(share(counts))
        print(f"lesson {lesson}: {100 * shares[-1]:.1f} %")
    return int(min(shares) < arguments.least)


if __name__ == "__main__":
    raise SystemExit(main())
