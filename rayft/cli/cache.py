"""What `rayft cache` does: list, remove and verify stores of activations."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from rayft.cli.command import Output
from rayft.cli.live_line import LiveLine
from rayft.cli.table import print_columns
from rayft.errors import CacheError, DataError, Problem, RayftError, RequestError
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.storage.roots import storage_at, store_root_of
from rayft.store.activation_list import StoreEntry, list_stores
from rayft.store.activation_room import budget_of, list_with_users, remove_stores
from rayft.store.activation_use import cache_errors, place_of
from rayft.store.activations import verify_store

_HEAD = ("key", "backbone", "cut", "view", "rows", "type", "size", "last used", "")
_NUMBERS = (4, 6)
_KEY_SHOWN = 12


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept below a `storage_path`."""

    named: tuple[str, ...]
    """The `storage_path`, where it was named."""
    storage: Location
    root: Location
    entries: Sequence[StoreEntry]
    users: Mapping[str, list[str]]
    """Who uses each store; without those of which it cannot be told."""


def list_cache(storage: str | None, out: Output) -> None:
    """Print the stores of activations below a `storage_path`."""
    kept = _kept(storage)
    budget = budget_of(kept.root)
    total = sum(entry.stored_bytes for entry in kept.entries)
    rows = [_row(entry, kept.users.get(entry.key)) for entry in kept.entries]
    if rows:
        print_columns((_HEAD, *rows), out.console, right=_NUMBERS)
    of_budget = f" of {_size(budget)}" if budget else ""
    out.say(f"{_count(len(rows))}, {_size(total)}{of_budget}, in {kept.storage}")
    useless = [entry for entry in kept.entries if entry.state != "whole"]
    if useless:
        out.next("rayft", "cache", "rm", *kept.named, *(_short(entry.key) for entry in useless))
    elif rows:
        out.next("rayft", "cache", "verify", *kept.named)
    else:
        out.next("rayft", "train", "SPEC")
    stores = [_as_json(entry, kept.users.get(entry.key)) for entry in kept.entries]
    out.result({"status": "listed", "stores": stores, "bytes": total, "budget": budget})


def remove_cached(words: Sequence[str], out: Output, *, everything: bool) -> None:
    """Remove stores of activations, by key or all that are not in use.

    Raises:
        RequestError: a key is unknown, or means several stores, or its store is in use.
    """
    storage, keys = _parted(words)
    if everything == bool(keys):
        what = "both keys and --all" if keys else "neither a key nor --all"
        fix = "name the stores to remove, as `rayft cache ls` shows them, or give --all"
        raise RequestError(Problem("KEY", f"expected one, found {what}", fix))
    kept = _kept(storage)
    chosen = kept.entries if everything else _chosen(kept, keys)
    if not everything:
        _refuse_used(kept, kept.users, chosen)
    users = remove_stores(kept.root, [entry.key for entry in chosen])
    if not everything:
        _refuse_used(kept, users, chosen)
    removed = [entry for entry in chosen if entry.key not in users]
    size = sum(entry.stored_bytes for entry in removed)
    out.say(f"removed {_count(len(removed))}, {_size(size)}, from {kept.storage}")
    for key, who in users.items():
        out.say(f"kept {_short(key)}: in use by {', '.join(who)}")
    out.next("rayft", "cache", "ls", *kept.named)
    out.result(
        {
            "status": "removed",
            "removed": [entry.key for entry in removed],
            "bytes": size,
            "kept": users,
        }
    )


def verify_cache(words: Sequence[str], out: Output, *, remove: bool) -> None:
    """Read every file of stores of activations.

    Raises:
        RequestError: a key is unknown, or means several stores.
        RayftError: naming every file that is not as it was written, where it is not removed.
    """
    storage, keys = _parted(words)
    kept = _kept(storage)
    chosen = _chosen(kept, keys) if keys else kept.entries
    # What is unfinished is checked when its build goes on.
    whole = [entry for entry in chosen if entry.state != "unfinished"]
    damaged = _damaged(kept.root, whole, out)
    users = remove_stores(kept.root, damaged) if remove and damaged else {}
    left = {key: found for key, found in damaged.items() if not remove or key in users}
    if left:
        out.next("rayft", "cache", "verify", *words, "--remove")
        raise RayftError(*(p for key, found in left.items() for p in _told(found, users.get(key))))
    size = sum(entry.stored_bytes for entry in whole)
    gone = f"removed {_count(len(damaged))} that was damaged" if damaged else "none is damaged"
    out.say(f"read {_count(len(whole))}, {_size(size)}; {gone}")
    out.next("rayft", "cache", "ls", *kept.named)
    read = [entry.key for entry in whole]
    out.result({"status": "verified", "stores": read, "bytes": size, "removed": list(damaged)})


def _kept(storage: str | None) -> _Kept:
    text = storage or str(RunSpec.model_fields["storage_path"].default)
    place = storage_at(text, base_dir=Path.cwd(), where="STORAGE")
    root = store_root_of(place)
    named = (storage,) if storage else ()
    try:
        return _Kept(named, place, root, *list_with_users(root))
    except CacheError:
        # To learn who uses a store takes the right to write; to list them does not.
        with cache_errors(root):
            return _Kept(named, place, root, list_stores(root), {})


def _parted(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Part a `storage_path` from the keys after it: a key is hexadecimal, and has no slash."""
    if words and ("/" in words[0] or words[0] in ("~", ".", "..")):
        return words[0], words[1:]
    return None, words


def _chosen(kept: _Kept, keys: Sequence[str]) -> list[StoreEntry]:
    """Return the stores that keys, or how keys begin, mean."""
    found, problems = {}, []
    for key in keys:
        means = [entry for entry in kept.entries if entry.key.startswith(key)]
        exact = [entry for entry in means if entry.key == key]
        if len(exact or means) == 1:
            found[key] = (exact or means)[0]
        else:
            problems.append(_not_one(kept, key, [entry.key for entry in means]))
    if problems:
        raise RequestError(*problems)
    return list({entry.key: entry for entry in found.values()}.values())


def _not_one(kept: _Kept, key: str, means: Sequence[str]) -> Problem:
    if means:
        return Problem("KEY", f"{key!r} means {', '.join(means)}", "write more of the key")
    if Path(key).is_dir():
        return Problem("KEY", f"{key!r} is a folder", f"write ./{key} where it is the storage_path")
    short = {entry.key[: max(len(key), 4)]: _short(entry.key) for entry in kept.entries}
    near = [short[name] for name in get_close_matches(key, short, n=1, cutoff=0.5)]
    fix = f"did you mean `{near[0]}`? " if near else ""
    what = f"nothing is kept under {key!r} in {kept.storage}"
    return Problem("KEY", what, f"{fix}`rayft cache ls {kept.storage}` lists what is")


def _refuse_used(kept: _Kept, users: Mapping[str, list[str]], chosen: Sequence[StoreEntry]) -> None:
    problems = [
        Problem(
            str(place_of(kept.root, entry.key)),
            f"it is in use by {', '.join(users[entry.key])}",
            "wait for the run, or stop it",
        )
        for entry in chosen
        if users.get(entry.key)
    ]
    if problems:
        raise RequestError(*problems)


def _damaged(
    root: Location, entries: Sequence[StoreEntry], out: Output
) -> dict[str, tuple[Problem, ...]]:
    """Return what is wrong with each store that is not as it was written."""
    found = {}
    with LiveLine(out.console) as line, cache_errors(root):
        for number, entry in enumerate(entries, start=1):
            line.show(f"reading {number} of {_count(len(entries))}", always=False)
            try:
                verify_store(place_of(root, entry.key))
            except DataError as error:
                found[entry.key] = error.problems
    return found


def _told(problems: Sequence[Problem], users: Sequence[str] | None) -> Sequence[Problem]:
    """Return problems with the reason why the store was not removed."""
    if not users:
        return problems
    fix = f"it was not removed, since it is in use by {', '.join(users)}: stop the run first"
    return [Problem(problem.where, problem.what, fix) for problem in problems]


def _row(entry: StoreEntry, users: Sequence[str] | None) -> tuple[str, ...]:
    used = datetime.fromtimestamp(entry.last_used, UTC).astimezone() if entry.last_used else None
    return (
        _short(entry.key),
        *(entry.about.get(name, "") for name in ("backbone", "cut", "view")),
        f"{entry.num_rows:,}" if entry.num_rows else "",
        entry.dtype or "",
        _size(entry.stored_bytes),
        f"{used:%Y-%m-%d %H:%M}" if used else "",
        _state(entry, users),
    )


def _state(entry: StoreEntry, users: Sequence[str] | None) -> str:
    state = [] if entry.state == "whole" else [entry.state]
    if users is None:
        return ", ".join([*state, "who uses it cannot be told"])
    return ", ".join([*state, *([f"in use by {', '.join(users)}"] if users else ())])


def _as_json(entry: StoreEntry, users: Sequence[str] | None) -> dict[str, object]:
    fields = asdict(entry)
    return {name: fields[name] for name in fields if name != "notes"} | {"in_use_by": users}


def _short(key: str) -> str:
    return key[:_KEY_SHOWN]


def _count(number: int) -> str:
    return f"{number:,} store" if number == 1 else f"{number:,} stores"


def _size(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 10**9 else f"{size / 1e6:,.2f} MB"
