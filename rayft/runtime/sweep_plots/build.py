"""The pictures of a sweep."""

from rayft.runtime.sweep_table import SweepTable


def draw_plots(table: SweepTable) -> dict[str, bytes]:
    """Return the pictures of a sweep as PNG files, by name.

    A picture that would say nothing is left out: all of them before the first result, and how
    much each setting matters while there are too few trials to tell.
    """
    # Drawing takes a second to import, and a sweep draws at its end alone.
    from rayft.runtime.sweep_plots.curves import draw_curves
    from rayft.runtime.sweep_plots.importance import draw_importance
    from rayft.runtime.sweep_plots.parallel import draw_parallel

    drawn = {
        "parallel.png": draw_parallel(table),
        "curves.png": draw_curves(table),
        "importance.png": draw_importance(table),
    }
    return {file: content for file, content in drawn.items() if content is not None}
