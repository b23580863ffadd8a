"""The command line: `rayft models | init | validate | plan | prepare | find-lr | train | ...`.

Commands import what they need when they run, so that `rayft --help` answers at once.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rayft.cli.cache_app import cache_app
from rayft.cli.command import AsJson, Debug, guarded
from rayft.runtime.allocator import use_huge_pages

app = typer.Typer(
    name="rayft",
    help="Fine-tune pretrained models on your own images, on one machine or a Ray cluster.",
    epilog="Start with: rayft init --data ./photos   or   rayft train jobs/quickstart.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="YAML file of the run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PATH=VALUE]...", help="Changes, such as phases.1.lr.heads=3e-3."),
]
app.add_typer(cache_app)


@app.command()
def init(  # noqa: PLR0913, PLR0917  each is an option
    data: Annotated[Path, typer.Option(help="Folder with a subfolder per class, parquet or CSV.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Spec to write; NAME.yaml by default.")
    ] = None,
    recipe: Annotated[
        Literal["auto", "linear-probe", "lp-ft", "gradual", "full"],
        typer.Option(help="What trains and how long; auto goes by the rows of each class."),
    ] = "lp-ft",
    backbone: Annotated[
        str | None,
        typer.Option(help="Such as torchvision/resnet50; by default one that is at hand."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace the file where it exists.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Look at your data and write a spec that trains unedited."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.init import Request, write_spec

        request = Request(data=data, output=output, recipe=recipe, backbone=backbone, force=force)
        write_spec(request, out)


@app.command()
def validate(
    spec: SpecFile, overrides: Overrides = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Check the spec alone: keys, values, and settings without effect."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.spec.load import load_spec

        loaded = load_spec(spec, overrides or ())
        out.say(f"{spec}: the spec is valid ({loaded.spec.name})")
        out.next("rayft", "plan", spec, *(overrides or ()))
        out.result({"status": "valid", "name": loaded.spec.name})


@app.command()
def plan(
    spec: SpecFile, overrides: Overrides = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Show what a run would do; start nothing."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.commands import show_plan

        show_plan(spec, overrides or (), out)


@app.command()
def prepare(
    spec: SpecFile,
    overrides: Overrides = None,
    report: Annotated[
        str | None,
        typer.Option(help="Look for faults in the data, and write what is found to this folder."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read, verify, decode and resize the rows once, for all later runs."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.commands import prepare_rows

        prepare_rows(spec, overrides or (), report, out)


@app.command()
def preview(  # noqa: PLR0913, PLR0917  each is an option
    spec: SpecFile,
    overrides: Overrides = None,
    rows: Annotated[int, typer.Option(help="Rows to show, of as many classes as can be.")] = 8,
    views: Annotated[
        int | None,
        typer.Option(help="Epochs to show of training rows, uses if balanced; 6 by default."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")] = Path(
        "preview.png"
    ),
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Rows to show.")
    ] = "train",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Draw rows beside what training sees of them; prepare them where they are not."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.preview import PreviewOptions, write_preview

        options = PreviewOptions(split=split, num_rows=rows, num_views=views, output=output)
        write_preview(spec, overrides or (), options, out)


@app.command(name="find-lr")
def find_lr(  # noqa: PLR0913, PLR0917  each is an option
    spec: SpecFile,
    overrides: Overrides = None,
    phase: Annotated[
        str | None, typer.Option(help="Phase to test, by name; the first by default.")
    ] = None,
    steps: Annotated[
        int, typer.Option(min=20, help="Steps from the smallest to the largest rate.")
    ] = 100,
    checkpoint: Annotated[
        str | None, typer.Option(help="Start from the weights of a run's folder or checkpoint.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw the losses into this PNG file.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Try rising learning rates in one phase, in this process, and suggest one."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.find_lr import find_rate

        find_rate(spec, overrides or (), phase, steps, checkpoint, output, out)


@app.command()
def train(
    spec: SpecFile, overrides: Overrides = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Run the spec to its end; the same command goes on after an interruption."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.commands import train_run

        train_run(spec, overrides or (), out)


@app.command()
def tune(  # noqa: PLR0913, PLR0917  each is an option
    sweep: Annotated[Path, typer.Argument(metavar="SWEEP", help="YAML file of the sweep.")],
    overrides: Overrides = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Show trials and what they share; start none.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how its trials stand.")] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Ask it to save and stop, wherever it runs.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run many trials of a spec; the same command goes on after an interruption."""
    with guarded(as_json=as_json, debug=debug) as out:
        if plan_only + status + stop > 1:
            from rayft.errors import Problem, SpecError

            what = "--plan, --status and --stop exclude each other"
            raise SpecError(Problem("rayft tune", what, "give one of them"))
        from rayft.cli import tune as commands

        if plan_only:
            commands.show_sweep_plan(sweep, overrides or (), out)
        elif status:
            commands.show_status(sweep, overrides or (), out)
        elif stop:
            commands.stop_sweep(sweep, overrides or (), out)
        else:
            commands.run_sweep(sweep, overrides or (), out)


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="A run's folder, or one checkpoint of it.")],
    overrides: Overrides = None,
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Rows to evaluate on.")
    ] = "test",
    report: Annotated[
        Path | None, typer.Option(help="Write the full report, as JSON, to this file.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Evaluate a checkpoint: figures per class, calibration, confusion, worst rows."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.commands import evaluate_checkpoint

        evaluate_checkpoint(checkpoint, overrides or (), split, report, out)


@app.command()
def predict(  # noqa: PLR0913, PLR0917  each is an option
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A run's folder, or one checkpoint of it.")
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Folder of images, image files, parquet files or a CSV file."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder to write.")],
    image: Annotated[str | None, typer.Option(help="Column with the images.")] = None,
    root: Annotated[
        str | None, typer.Option(help="Folder that paths in a table are relative to.")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="Columns that go through, as in id,name; or all.")
    ] = "all",
    prefix: Annotated[str, typer.Option(help="Put before the names of the added columns.")] = "",
    top: Annotated[
        int | None, typer.Option(help="List so many classes, best first, not all.")
    ] = None,
    workers: Annotated[
        str, typer.Option(help="Ray workers: a number, 0 for this process, or auto.")
    ] = "auto",
    batch_size: Annotated[str, typer.Option(help="Rows of a batch, or auto.")] = "auto",
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="What the model computes on.")
    ] = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write labels and probabilities of new images; the same command goes on after a stop."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.predict import column_names, number_or_auto, predict_images
        from rayft.runtime.predict_job import PredictOptions

        options = PredictOptions(
            image=image,
            root=root,
            columns=column_names(columns),
            prefix=prefix,
            top=top,
            workers=number_or_auto("--workers", workers),
            batch_size=number_or_auto("--batch-size", batch_size),
            device=device,
        )
        predict_images(checkpoint, inputs, output, options, out)


@app.command()
def models(
    pattern: Annotated[
        str | None,
        typer.Argument(metavar="[PATTERN]", help="A name, a part of names, or a glob as in vit*."),
    ] = None,
    library: Annotated[
        Literal["torchvision", "timm"] | None, typer.Option(help="Look in this one alone.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List backbones: parameters, input size, depth groups, and weights by name."""
    with guarded(as_json=as_json, debug=debug) as out:
        from rayft.cli.models import list_models

        list_models(pattern, library, out)


def main() -> None:
    """Run the command line."""
    use_huge_pages()
    app()
