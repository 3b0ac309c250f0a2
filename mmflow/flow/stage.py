"""One stage of a plan, run and published."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mmflow.artifacts import AboutStage, StageRecord
from mmflow.data.blanks import made_by_stages
from mmflow.flow.context import FlowContext
from mmflow.flow.inside import StagesInside, seed_stray_draws, work
from mmflow.flow.machine import environment

if TYPE_CHECKING:
    from mmflow.flow.plan import PlannedStage
    from mmflow.flow.store import RunStore
    from mmflow.identity.keys import Keys
    from mmflow.plugin.kinds import Reporter
    from mmflow.spec import Spec


def run_stage(
    stage: PlannedStage,
    *,
    spec: Spec,
    keys: Keys,
    store: RunStore,
    report: Reporter,
    device: str,
    workers: int,
    forced: bool = False,
    offline: bool = False,
) -> None:
    """Run one stage and publish its outputs under its key, all or nothing."""
    started, began = datetime.now(UTC), time.monotonic()
    meta = {"stage": stage.stage, "use": stage.declaration.use}
    if store.publish_kept(stage.key, meta):
        report.note("stored what an earlier run had to keep on this machine")
        store.drop_partial(stage.key)
        return
    seed_stray_draws(keys.seed(stage.stage) or 0)
    with store.scratch() as folder:
        output, scratch = folder / "output", folder / "scratch"
        output.mkdir()
        scratch.mkdir()
        context = FlowContext(
            stage, spec=spec, keys=keys, store=store, output=output, scratch=scratch, report=report, device=device,
            workers=workers, forced=forced, offline=offline,
        )  # fmt: skip
        context.inside = inside = StagesInside(context)
        if made_by_stages(context.scope):
            _rehearse(spec, context)
        work(stage.declaration, context)
        about: AboutStage = {
            "stage": stage.stage,
            "use": stage.declaration.use,
            "key": stage.key,
            "seconds": round(time.monotonic() - began, 3),
            "started": started.isoformat(),
            "environment": environment(device),
            "remarks": [*context.remarks, *inside.all_remarks()],
        }
        StageRecord(output).write(about)
        if about["remarks"]:
            report.markdown("remarks", "\n".join(f"- {remark}" for remark in about["remarks"]))
        store.publish_or_keep(stage.key, output, meta)
    store.drop_partial(stage.key)


def _rehearse(spec: Spec, context: FlowContext) -> None:
    """Do with what other stages have made what was done with blank values before the first stage."""
    from mmflow.model.shapes import check_shapes
    from mmflow.spec import SpecError

    if problems := check_shapes(spec, [context.name], context.scope).problems:
        raise SpecError(problems)
