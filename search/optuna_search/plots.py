"""Single plots of a study, drawn by Optuna in the style of this project's other plots.

Each function takes a `View` and the file to write, and leaves Matplotlib's settings unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna import Study
from optuna.importance import BaseImportanceEvaluator
from optuna.visualization import matplotlib as optuna_plots

from agr.plots import search
from search.optuna_search.study_view import View

SIZE = (8.0, 4.8)  # inches
COLUMNS = 4  # panels in a row
MOST_LINES = 8  # hyperparameters in the parallel coordinates; more would be illegible
MARKED = 60  # points of a curve up to which they get markers


def best_so_far(view: View, spent: Sequence[tuple[int, float]], path: Path) -> None:
    """The best score so far against the number of trained epochs, including those of pruned trials."""
    best = [spent[0][1]]
    for _, score in spent[1:]:
        best.append(min(best[-1], score, key=lambda value: view.sign * value))
    epochs = [count for count, _ in spent]
    figure = Figure(figsize=SIZE, layout="constrained")
    panel = figure.subplots()
    marker = "." if len(spent) <= MARKED else ""
    panel.plot(epochs, best, color=search.COLOURS[0], drawstyle="steps-post", marker=marker, linewidth=1.5)
    panel.set(xlabel="epochs trained, all trials together", ylabel=f"best {view.objective} so far")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.margins(x=0.03, y=0.1)
    panel.grid(alpha=0.3)
    search.save(figure, path, f"{view.title}\nbest {view.objective} {best[-1]:.4g} after {epochs[-1]} trained epochs")


def history(view: View, path: Path) -> None:
    """Each trial's score, and the best so far."""
    with _style():
        panel = optuna_plots.plot_optimization_history(view.study, target_name=view.objective)
        panel.set(xlabel="trial", xlim=(-0.5, len(view.study.get_trials(deepcopy=False)) - 0.5))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        handles, _ = panel.get_legend_handles_labels()
        panel.legend(handles, ["a trial", "best so far"], loc="best", facecolor="white")
        _finish([panel], path, f"{view.title}\n{view.objective} by trial; {view.trial_counts}")


def slices(view: View, ranked: Sequence[str], path: Path) -> None:
    """The score against each hyperparameter, one panel for each."""
    with _style():
        drawn = optuna_plots.plot_slice(view.study, list(ranked), target_name=view.objective)
        panels: list[Axes] = [drawn] if isinstance(drawn, Axes) else list(drawn)
        panels.sort(key=lambda panel: ranked.index(panel.get_xlabel()))
        _in_rows(panels, view.objective)
        _finish(panels, path, f"{view.title}\n{view.objective} against each hyperparameter; {view.trial_counts}")


def _in_rows(panels: Sequence[Axes], objective: str) -> None:
    """Arrange panels in rows of COLUMNS; only the first of a row has tick labels."""
    figure, columns = _figure(panels[0]), min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure.set_size_inches(max(SIZE[0], 1.2 + 2.7 * columns), 1.1 + 2.3 * rows if rows > 1 else 4.2)
    for panel in set(figure.axes) - set(panels):
        panel.set_ylabel("trial")
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(panels) == 1:
        return
    grid = figure.add_gridspec(rows, columns)
    for index, panel in enumerate(panels):
        panel.set_subplotspec(grid[index // columns, index % columns])
        panel.yaxis.set_tick_params(labelleft=index % columns == 0)
        panel.set_ylabel(objective if index % columns == 0 else "")


def parallel(view: View, ranked: Sequence[str], path: Path) -> None:
    """Each trial as a line through its score and its most important hyperparameters."""
    names = ranked[:MOST_LINES]
    with _style():
        panel = optuna_plots.plot_parallel_coordinate(view.study, list(names), target_name=view.objective)
        figure = _figure(panel)
        figure.set_size_inches(max(SIZE[0], 3.0 + 1.2 * len(names)), 5.2)
        for lines in panel.collections:
            lines.set_cmap(view.colours)
        panel.set_title("")
        for label in panel.get_xticklabels():
            label.set(rotation=20, ha="right")
        for axis in figure.axes:
            for label in axis.get_yticklabels(which="both"):
                label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5})
        which = f"the {len(names)} most important hyperparameters" if len(names) < len(ranked) else "hyperparameters"
        _save(figure, path, f"{view.title}\n{view.objective} and {which}; {view.trial_counts}")


def contour(view: View, one: str, other: str, path: Path) -> None:
    """The score over two hyperparameters, interpolated between trials."""
    with _style():
        panel = optuna_plots.plot_contour(view.study, [one, other], target_name=view.objective)
        assert isinstance(panel, Axes)  # two hyperparameters make one panel
        for surface in panel.collections[:1]:
            surface.set_cmap(view.colours)
        _finish(
            [panel], path, f"{view.title}\n{view.objective} over {one} and {other}, interpolated; {view.trial_counts}"
        )


def importances(view: View, evaluator: BaseImportanceEvaluator, share: float, path: Path) -> None:
    """The importance of each hyperparameter. share: the share of trials that count as the best, 0..1."""
    with _style():
        panel = optuna_plots.plot_param_importances(view.study, evaluator, list(view.names), target_name=view.objective)
        _figure(panel).set_size_inches(SIZE[0], 1.7 + 0.32 * len(view.names))
        panel.set(xlabel="share of the importance (PED-ANOVA)", ylabel="")
        panel.legend([], frameon=False)
        best = f"the best {100 * share:.0f} % by {view.objective}"
        _finish([panel], path, f"{view.title}\nwhich hyperparameters distinguish {best}; {view.trial_counts}")


def pareto(study: Study, objectives: Sequence[str], title: str, path: Path) -> None:
    """All finished trials by two or three objectives, with the Pareto front marked."""
    with _style():
        panel = optuna_plots.plot_pareto_front(study, target_names=list(objectives))
        depth = getattr(panel, "zaxis", None)
        for axis in (panel.xaxis, panel.yaxis, depth) if depth is not None else ():
            axis.set_major_locator(MaxNLocator(4))
            axis.labelpad = 12
        handles, labels = panel.get_legend_handles_labels()
        named = {"Trial": "a trial", "Best Trial": "on the Pareto front"}
        panel.legend(handles, [named.get(label, label) for label in labels], loc="best", facecolor="white")
        _finish([panel], path, f"{title}\nPareto front of {', '.join(objectives)}: {len(study.best_trials)} trials")


def _style() -> AbstractContextManager[None]:
    """Restore pyplot's settings after Optuna has changed them."""
    return matplotlib.rc_context({"figure.constrained_layout.use": True, "figure.figsize": SIZE})


def _finish(panels: Sequence[Axes], path: Path, title: str) -> None:
    """Apply the project's style, then save."""
    figure = _figure(panels[0])
    for panel in panels:
        panel.set_title("")
        panel.set_title("", loc="left")
        panel.set_facecolor("white")
        panel.grid(color="#b0b0b0", alpha=0.3)
        for spine in panel.spines.values():
            spine.set(visible=True, color="black", linewidth=0.8)
    for panel in figure.axes:
        panel.tick_params(colors="black", labelsize=9)
        for axis in (panel.xaxis, panel.yaxis):
            axis.label.set(color="black", fontsize=10)
    _save(figure, path, title)


def _figure(panel: Axes) -> Figure:
    figure = panel.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def _save(figure: Figure, path: Path, title: str) -> None:
    search.save(figure, path, title)
    pyplot.close(figure)
