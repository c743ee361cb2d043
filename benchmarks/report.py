"""Tables of medians, spreads and ratios, and whether lambdamr keeps its promises."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.machine import Machine
from benchmarks.rounds import Sample
from benchmarks.sandbox import GRACE_SECONDS
from benchmarks.workloads import Metric, Target, Workload

NONE = "—"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Everything one run measured."""

    machine: Machine
    workloads: Sequence[Workload]
    samples: Sequence[Sample]
    rounds: int
    quick: bool
    stolen_percent: float
    source_changed: bool
    """Somebody edited lambdamr during the run: its samples are of more than one program."""

    @property
    def failed(self) -> bool:
        return any(sample.status == "failed" for sample in self.samples)

    def text(self) -> str:
        return self._render("simple", heading="\n{}\n", item="  {}")

    def markdown(self) -> str:
        return self._render("github", heading="\n### {}\n", item="- {}")

    def write_markdown(self, path: Path) -> None:
        """Writes the tables; into a page that has the markers, between them."""
        tables = f"{BEGIN}\n\n{self.markdown()}\n\n{END}"
        page = path.read_text() if path.exists() else ""
        if BEGIN in page and END in page:
            before, _, rest = page.partition(BEGIN)
            tables = before + tables + rest.partition(END)[2]
        else:
            tables += "\n"
        path.write_text(tables)

    def write_json(self, path: Path) -> None:
        content = {
            "machine": dataclasses.asdict(self.machine),
            "rounds": self.rounds,
            "quick": self.quick,
            "stolen_percent": self.stolen_percent,
            "source_changed": self.source_changed,
            "samples": [dataclasses.asdict(sample) for sample in self.samples],
        }
        path.write_text(json.dumps(content, indent=2) + "\n")

    def _render(self, style: str, *, heading: str, item: str) -> str:
        versions = ", ".join(f"{name} {v}" for name, v in self.machine.versions.items())
        lines = [
            str(self.machine),
            "",
            f"{versions}. Rounds: {self.rounds}. CPU that the hypervisor gave to others "
            f"meanwhile: {self.stolen_percent:.1f} %.",
            "",
            f"lambdamr: {self.machine.lambdamr or 'NOT MEASURED in this run'}"
            + (": CHANGED DURING THE RUN, its numbers mean nothing" if self.source_changed else ""),
        ]
        for workload in self.workloads:
            samples = [s for s in self.samples if s.workload == workload.name]
            if not samples:
                continue
            lines.append(heading.format(workload.title))
            lines.append(_table(workload, samples, style))
            lines.append("")
            lines += [item.format(v) for v in self._verdicts(workload, samples)]
            lines += [item.format(note) for note in _notes(workload, samples)]
        return "\n".join(lines)

    def _verdicts(self, workload: Workload, samples: Sequence[Sample]) -> Iterator[str]:
        metrics = {metric.name: metric for metric in workload.metrics}
        for target in workload.targets:
            metric = metrics[target.metric]
            obstacle = self._obstacle(metric, target, samples)
            verdict = f"not judged, {obstacle}" if obstacle else _verdict(metric, target, samples)
            yield f"target: {_promise(workload, metric, target)}: {verdict}"

    def _obstacle(self, metric: Metric, target: Target, samples: Sequence[Sample]) -> str | None:
        """Why these samples cannot show whether the target is met."""
        if self.quick:
            return "a quick run is too short"
        for peer in filter(None, ("lambdamr", target.against, target.ceiling)):
            of_peer = [sample for sample in samples if sample.peer == peer]
            measured = len(_measured(of_peer))
            if measured == 0:
                return f"{peer} was not measured"
            if measured < len(of_peer):
                return f"{len(of_peer) - measured} of {len(of_peer)} samples of {peer} failed"
        if self.source_changed:
            return "lambdamr changed during the run"
        ceiling = _median(metric, samples, target.ceiling) if target.ceiling else None
        if ceiling is not None and ceiling < target.limit:
            return f"the machine was busy: {target.ceiling} reached {_number(ceiling, metric)}"
        return None


def _table(workload: Workload, samples: Sequence[Sample], style: str) -> str:
    headers = ["", "partitions"]
    for metric in workload.metrics:
        headers += [metric.label, "min … max", "lambdamr is"]
    rows = []
    for peer in dict.fromkeys(sample.peer for sample in samples):
        of_peer = [sample for sample in samples if sample.peer == peer]
        row = [workload.label(peer)]
        if not _measured(of_peer):
            status = of_peer[0].status
            row += ["missing" if status == "missing" else "FAILED"]
            row += [NONE] * (3 * len(workload.metrics))
        else:
            if len(_measured(of_peer)) < len(of_peer):
                row[0] += f" ({len(_measured(of_peer))} of {len(of_peer)} samples)"
            row += [f"{_measured(of_peer)[0].partitions:,}"]
            for metric in workload.metrics:
                values = [sample.values[metric.name] for sample in _measured(of_peer)]
                row += [
                    _number(statistics.median(values), metric),
                    f"{_number(min(values), metric)} … {_number(max(values), metric)}",
                    _times(_advantage(metric, samples, over=peer)),
                ]
        rows.append(row)
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, tablefmt=style, colalign=align, disable_numparse=True)


def _promise(workload: Workload, metric: Metric, target: Target) -> str:
    if target.against is not None:
        return f"{metric.label}, {target.limit:g}× {workload.label(target.against)} or better"
    bound = "at least" if metric.better == "more" else "under"
    return f"{bound} {target.limit:g} {metric.label}"


def _verdict(metric: Metric, target: Target, samples: Sequence[Sample]) -> str:
    if target.against is not None:
        ratio = _advantage(metric, samples, over=target.against)
        if ratio is None:
            return "not judged, no ratio to a value that is not positive"
        return f"{_times(ratio)}, {'met' if ratio >= target.limit else 'MISSED'}"
    own = _median(metric, samples, "lambdamr")
    if own is None:
        return "not judged, lambdamr was not measured"
    met = own >= target.limit if metric.better == "more" else own < target.limit
    return f"{_number(own, metric)}, {'met' if met else 'MISSED'}"


def _notes(workload: Workload, samples: Sequence[Sample]) -> Iterator[str]:
    most = max(sample.partitions for sample in samples)
    for peer in dict.fromkeys(sample.peer for sample in samples):
        of_peer = [sample for sample in samples if sample.peer == peer]
        label = workload.label(peer)
        failures = [sample.problem for sample in of_peer if sample.status == "failed"]
        left = {name for sample in of_peer for name in sample.processes_left}
        measured = _measured(of_peer)
        if of_peer[0].status == "missing":
            yield f"{label}: missing, not installed here"
        if failures:
            why = failures[-1].rpartition("\n")[2]
            yield f"{label}: {len(failures)} of {len(of_peer)} samples failed: {why}"
        if measured and measured[0].partitions < most:
            yield (
                f"{label}: on {measured[0].partitions:,} partitions instead of {most:,}, "
                "because it is slow"
            )
        if left:
            yield (
                f"{label}: still running {GRACE_SECONDS:.0f} s after the driver's end, "
                f"ended by us: {', '.join(sorted(left))}"
            )


def _measured(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.status == "measured"]


def _median(metric: Metric, samples: Sequence[Sample], peer: str) -> float | None:
    values = [s.values[metric.name] for s in _measured(samples) if s.peer == peer]
    return statistics.median(values) if values else None


def _advantage(metric: Metric, samples: Sequence[Sample], *, over: str) -> float | None:
    """How many times better lambdamr's median is than the peer's: above 1, lambdamr wins."""
    own, peer = _median(metric, samples, "lambdamr"), _median(metric, samples, over)
    if own is None or peer is None or own <= 0 or peer <= 0:
        return None
    return own / peer if metric.better == "more" else peer / own


def _number(value: float, metric: Metric) -> str:
    return f"{value:,.{metric.digits}f}"


def _times(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.2f}×"
