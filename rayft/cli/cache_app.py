"""`rayft cache ls | rm | verify`: what is kept of frozen parts, and how to be rid of it."""

from typing import Annotated

import typer

from rayft.cli.command import AsJson, Debug, guarded

cache_app = typer.Typer(
    name="cache",
    help="List, remove and verify the activations that are kept of frozen parts.",
    no_args_is_help=True,
)

Storage = Annotated[
    str | None,
    typer.Argument(metavar="[STORAGE]", help="A storage_path; that of specs by default."),
]


@cache_app.command(name="ls")
def list_kept(storage: Storage = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """List what is kept: of which model, how much, when it was last used and by whom it is."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.cache import list_cache

        list_cache(storage, out)


@cache_app.command(name="rm")
def remove_kept(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORAGE] KEY...",
            help="A storage_path, with a slash, and keys or how they begin.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove all that is not in use.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove what is kept; what a run uses is refused."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.cache import remove_cached

        remove_cached(words or (), out, everything=everything)


@cache_app.command(name="verify")
def verify_kept(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORAGE] [KEY...]",
            help="A storage_path, with a slash, and keys or how they begin; all by default.",
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what is damaged and not in use.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read every file and say which stores are not as they were written."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.cache import verify_cache

        verify_cache(words or (), out, remove=remove)
