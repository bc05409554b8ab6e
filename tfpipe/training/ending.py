"""The end of a run of SGD: the selected head is tested and kept, and all heads are reported on."""

from tfpipe.disk.workdir import Workdir
from tfpipe.model import tested
from tfpipe.model.regression import SoftmaxRegression
from tfpipe.monitor import Finished, Monitor, Selected, warn
from tfpipe.training import coefficients, report, run_report
from tfpipe.training.assembly import Parts
from tfpipe.training.certificate import certificate
from tfpipe.training.plan import Plan
from tfpipe.training.result import Result
from tfpipe.training.run_warnings import warnings
from tfpipe.training.screen import of_screening


def ended(
    plan: Plan, parts: Parts, monitor: Monitor, steps: int, seconds: float, files: Workdir | None, *, interrupted: bool
) -> Result:
    """Saves the selected head, and reports on all heads, after so many steps that took so long."""
    record, saving = parts.record, parts.saving
    parts.pictures.wait()
    model = selected = distance = test = None
    if (leader := record.leader) is not None:
        trained = record.model()
        test, diagnosis = tested.on_test(trained, plan.splits, plan.test.examples)
        trained = trained._replace(summary=trained.summary | tested.of_error(test))
        # Without weight decay nothing bounds it.
        if (l2 := plan.solver.settings[leader].get("l2", 0)) > 0 and not interrupted:
            distance = certificate(plan.splits, plan.weights, trained, l2, parts.workers)
        if saving:
            saving.save_last_model(trained)
        model = SoftmaxRegression.from_arrays(trained.W, trained.b)
        assert record.made is not None
        selected = Selected(max(0, steps - 1), record.made, trained, diagnosis, plan.splits.test)
    # Of a first run the second has the answer.
    lines = [] if plan.screens else warnings(plan, record, steps, distance, interrupted=interrupted)
    for warning in lines:
        warn(warning)
    content = run_report.build(
        plan,
        record.patience,
        steps=steps,
        test_error=record.best.test_error,
        test=test,
        diagnosis=selected.diagnosis if selected else None,
        coefficients=coefficients.of_sgd(plan.splits, selected.model if selected else None),
        certificate=distance,
        warnings=[*record.said, *lines],
        seconds=seconds,
        programs=parts.heads.n_groups,
        workdir=files.name if files else None,
        interrupted=interrupted,
    ) | of_screening(plan, record, interrupted=interrupted)
    monitor.finished(Finished(plan.data, plan.flags, steps - 1, content, report.tables(content), selected))
    if files:
        with files.writing(files.report.name):  # After all else: it says that a run is finished.
            report.save(files.report, content)
    return Result(model, content, record.history)
