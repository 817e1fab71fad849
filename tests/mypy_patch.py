"""A plugin of mypy for fastcore's `@patch`: what notebooks add to a class is an attribute of it, of type Any."""
import ast
from collections import defaultdict
from pathlib import Path

from mypy.nodes import MDEF, SymbolTableNode, Var
from mypy.plugin import Plugin
from mypy.types import AnyType, TypeOfAny

root = Path(__file__).resolve().parent.parent


def patched():
    "Name of a class -> the names that `@patch` functions of the library add to it: their own, and the attributes that they set."
    out = defaultdict(set)
    for p in (root / 'wattnb').rglob('*.py'):
        for f in ast.parse(p.read_text('utf-8')).body:
            if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) and f.args.args and f.args.args[0].annotation and any('patch' in ast.unparse(d) for d in f.decorator_list):
                self = f.args.args[0].arg
                set_ = {n.attr for n in ast.walk(f) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store) and ast.unparse(n.value) == self}
                out[ast.unparse(f.args.args[0].annotation)] |= {f.name} | set_
    return out


class PatchPlugin(Plugin):
    names = patched()

    def get_customize_class_mro_hook(self, fullname):
        new = self.names.get(fullname.rpartition('.')[2]) if fullname.startswith('wattnb.') else None
        return (lambda ctx: [self.add(ctx.cls.info, name) for name in new]) if new else None

    def add(self, info, name):
        if name in info.names: return
        v = Var(name, AnyType(TypeOfAny.special_form))
        v.info, v._fullname, v.is_initialized_in_class = info, f'{info.fullname}.{name}', True
        info.names[name] = SymbolTableNode(MDEF, v, plugin_generated=True)


def plugin(version): return PatchPlugin
