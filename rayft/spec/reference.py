"""The spec in words: which settings stand where, what each expects, and the page that lists them.

Everything is read off the models, so neither a message nor the page can fall behind them.
"""

import json
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import JsonValue
from pydantic.fields import FieldInfo

from rayft.spec.base import Spec
from rayft.spec.run import RunSpec

Form: TypeAlias = Any
"""What a setting may hold, as the models annotate it: a class, a union, `Annotated[...]`."""

_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$": "at most 128 letters, digits, '.', '_' and '-', the "
    "first a letter or digit",
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$": "at most 64 letters, digits, '_' and '-', the first a "
    "letter or digit",
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "the form package.module:function",
    r"^[0-9a-f]{64}$": "64 digits 0-9 and letters a-f",
}
_PLAIN: dict[Form, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    JsonValue: "any value",
}


def fields_of(model: type[Spec]) -> dict[str, FieldInfo]:
    """Return the settings of a section under the names that users write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def form_of(field: FieldInfo) -> Form:
    """Return what a field may hold, with its limits."""
    form: Form = field.annotation
    if field.metadata or field.discriminator or field.examples or field.title:
        return Annotated[form, field]
    return form


def branches(form: Form) -> list[Form]:
    """Return the alternatives of a union, without null; a lone form is its own alternative."""
    base, _ = _taken_apart(form)
    if _shape(base) is Union:
        members = [member for member in get_args(base) if member is not NoneType]
        return members if len(members) > 1 else branches(members[0])
    return [form]


def kinds(form: Form) -> dict[str, type[Spec]]:
    """Return the sections of a union that is told apart by `kind`; empty for anything else."""
    found: dict[str, type[Spec]] = {}
    members = branches(form)
    for member in members:
        model = as_section(member)
        if model is None or "kind" not in model.model_fields:
            return {}
        found |= dict.fromkeys(get_args(model.model_fields["kind"].annotation), model)
    return found if len(members) > 1 else {}


def as_section(form: Form) -> type[Spec] | None:
    """Return the model of a form that is one section."""
    base, _ = _taken_apart(form)
    return base if isinstance(base, type) and issubclass(base, Spec) else None


def choices(form: Form) -> list[str]:
    """Return the fixed values that a setting may have."""
    bases = [_taken_apart(branch)[0] for branch in branches(form)]
    return [str(value) for base in bases if _shape(base) is Literal for value in get_args(base)]


def inner_forms(form: Form, key: str) -> list[Form]:
    """Return what may stand under `key`, a name or an index, in any alternative of `form`."""
    found: list[Form] = []
    for branch in branches(form):
        base, _ = _taken_apart(branch)
        model, args = as_section(branch), get_args(base)
        if model is not None:
            found += [form_of(field) for name, field in fields_of(model).items() if name == key]
        elif _shape(base) is Union:
            found += inner_forms(branch, key)
        elif _shape(base) is dict:
            found.append(args[1])
        elif _shape(base) is tuple and key.isdecimal():
            found += args[:1] if args[-1] is Ellipsis else args[int(key) : int(key) + 1]
    return found


def forms_at(path: Sequence[str], root: type[Spec] = RunSpec) -> list[Form]:
    """Return what may stand at a path of a spec; empty where there is no such setting."""
    forms: list[Form] = [root]
    for key in path:
        forms = [inner for form in forms for inner in inner_forms(form, key)]
    return forms


def names_in(form: Form) -> list[str]:
    """Return the names of settings directly inside any alternative of `form`."""
    models = list(_sections_in(form))
    return list(dict.fromkeys(name for model in models for name in fields_of(model)))


def _sections_in(form: Form) -> Iterator[type[Spec]]:
    for branch in branches(form):
        model = as_section(branch)
        if model is not None:
            yield model
        elif len(branches(branch)) > 1:
            yield from _sections_in(branch)


def _taken_apart(form: Form) -> tuple[Form, list[object]]:
    """Return a form without `Annotated`, and its limits."""
    limits: list[object] = []
    while _shape(form) is Annotated:
        form, *extra = get_args(form)
        for item in extra:
            limits += [*item.metadata, item] if isinstance(item, FieldInfo) else [item]
    return form, limits


def _shape(form: Form) -> object:
    """Return `Union`, `Literal`, `Annotated`, `tuple` or `dict`; None for a class."""
    origin: object = get_origin(form)
    return Union if origin is UnionType else origin


def words(form: Form) -> str:
    """Say what a setting expects: `a number above 0`, `auto, fp32 or bf16`."""
    base, limits = _taken_apart(form)
    titles = [limit.title for limit in limits if isinstance(limit, FieldInfo) and limit.title]
    return f"{titles[0]}{_examples(limits)}" if titles else _untitled(form, base, limits)


def _untitled(form: Form, base: Form, limits: Sequence[object]) -> str:
    if kinds(form):
        null = ["null"] if NoneType in get_args(base) else []
        return f"a section of kind {listed([*kinds(form), *null])}"
    if _shape(base) is Union:
        bounds = [limit for limit in limits if not isinstance(limit, FieldInfo)]
        return _words_of_union(get_args(base), bounds)
    if _shape(base) is Literal:
        return listed([str(value) for value in get_args(base)])
    if _shape(base) is tuple:
        return _words_of_list(get_args(base), limits)
    if _shape(base) is dict:
        return f"a table from names to {words(get_args(base)[1])}"
    if as_section(form) is not None:
        return f"a section with {listed(list(fields_of(base)), last='and')}"
    return _PLAIN[base] + _bounds(limits) + _examples(limits)


def _words_of_union(members: tuple[Form, ...], bounds: Sequence[object]) -> str:
    named = {NoneType: ["null"], bool: ["true", "false"]}
    items: list[str] = []
    for member in members:
        bounded = Annotated[member, *bounds] if bounds else member
        items += named.get(member) or [words(bounded)]
    return listed(items)


def _words_of_list(items: tuple[Form, ...], limits: Sequence[object]) -> str:
    if items[-1] is not Ellipsis:
        return f"a list of {len(items)}, each item {words(items[0])}"
    least = [f" of at least {limit.min_length}" for limit in limits if isinstance(limit, MinLen)]
    return f"a list{''.join(least)}, each item {words(items[0])}"


def _bounds(limits: Sequence[object]) -> str:
    bounds: list[str] = []
    for limit in limits:
        match limit:
            case Gt(gt=value):
                bounds.append(f"above {value}")
            case Ge(ge=value):
                bounds.append(f"at least {value}")
            case Lt(lt=value):
                bounds.append(f"below {value}")
            case Le(le=value):
                bounds.append(f"at most {value}")
            case _ if pattern := getattr(limit, "pattern", None):
                bounds.append(f"of {_PATTERNS.get(pattern, f'the pattern {pattern}')}")
            case _:
                pass
    return f" {' and '.join(bounds)}" if bounds else ""


def _examples(limits: Sequence[object]) -> str:
    examples = [example for limit in limits for example in getattr(limit, "examples", None) or []]
    named = list(dict.fromkeys(f"'{example}'" for example in examples))
    return f" such as {listed(named)}" if named else ""


def listed(items: Sequence[str], *, last: str = "or") -> str:
    """Join items as in a sentence: `a, b or c`."""
    unique = list(dict.fromkeys(items))
    if len(unique) < 2:
        return "".join(unique)
    return f"{', '.join(unique[:-1])} {last} {unique[-1]}"


def sections(root: type[Spec] = RunSpec) -> dict[type[Spec], list[str]]:
    """Return every section of a spec with the paths it may stand at, in the order of the spec.

    `N` stands for an index and `NAME` for a name of the user's choice.
    """
    found: dict[type[Spec], list[str]] = {}
    _collect(root, (), found)
    return found


def _collect(form: Form, path: tuple[str, ...], found: dict[type[Spec], list[str]]) -> None:
    base, _ = _taken_apart(form)
    model = as_section(form)
    if model is not None:
        found.setdefault(model, []).append(".".join(path))
        for name, field in fields_of(model).items():
            _collect(form_of(field), (*path, name), found)
    elif _shape(base) is Union:
        for branch in branches(form):
            _collect(branch, path, found)
    elif _shape(base) is tuple:
        _collect(get_args(base)[0], (*path, "N"), found)
    elif _shape(base) is dict:
        _collect(get_args(base)[1], (*path, "NAME"), found)


def homes_of(key: str, root: type[Spec] = RunSpec) -> list[str]:
    """Return the paths at which a setting of this name may stand, with the kinds that have it."""
    found: dict[str, list[str]] = {}
    for section, paths in sections(root).items():
        if key in fields_of(section):
            kind = section.model_fields.get("kind")
            home = f"{paths[0]}.{key}".lstrip(".")
            found.setdefault(home, []).extend(get_args(kind.annotation) if kind else ())
    return [f"{home} of kind {listed(of)}" if of else home for home, of in found.items()]


def schema_json() -> str:
    """Return the JSON schema of a run spec, for editors."""
    schema = RunSpec.model_json_schema(by_alias=True)
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def reference_page() -> str:
    """Return a Markdown page with every setting of a run: path, type, default and meaning."""
    return page_of(
        RunSpec,
        "# Reference of the run spec\n\nGenerated from the models in `rayft/spec`. `N` stands for "
        "an index from 0, `NAME` for a name of your choice.\n",
    )


def page_of(root: type[Spec], head: str) -> str:
    """Return a Markdown page with every setting of a spec, below a head."""
    found = sections(root).items()
    return "\n".join([head, *(_section_text(model, paths) for model, paths in found)])


def _section_text(model: type[Spec], paths: Sequence[str]) -> str:
    kind = model.model_fields.get("kind")
    title = f"`{paths[0]}`" if paths[0] else "The whole spec"
    if kind is not None:
        title += f", kind `{get_args(kind.annotation)[0]}`"
    lines = [f"## {title}", "", (model.__doc__ or "").split("\n\n")[0].replace("\n    ", " "), ""]
    if len(paths) > 1:
        lines += [f"Also at {listed([f'`{path}`' for path in paths[1:]], last='and')}.", ""]
    lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
    prefix = f"{paths[0]}." if paths[0] else ""
    lines += [_row(f"{prefix}{name}", field) for name, field in fields_of(model).items()]
    return "\n".join(lines) + "\n"


def _row(path: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "Chooses this section.").split())
    default = "required" if field.is_required() else f"`{_default(field.default)}`"
    cells = [f"`{path}`", words(form_of(field)), default, meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: object) -> str:
    if isinstance(value, Spec):
        kind = getattr(value, "kind", None)
        return f"{{kind: {kind}}}" if kind else "{}"
    return value if isinstance(value, str) else json.dumps(value)
