"""Periodic jobs, and what was published.  Pure."""

from __future__ import annotations

from typing import Final, Literal

from ...fleet.documents import JobDocument, MeasureDocument, PublishesDocument
from ...fleet.status import Status
from ...fleet.totals import CONFIRM_BOUNDS, quantile
from .look import Look
from .markup import Html, cut, h, id_of
from .words import NOTHING, age, countdown, duration, number

__all__ = ["job_rows", "ledger_rows"]

NAME_MAX = 120
PUBLISHED: Final[tuple[Literal["waiting", "refused", "unknown"], ...]] = ("waiting", "refused", "unknown")


def job_rows(status: Status, look: Look) -> dict[str, Html]:
    """A row for each job: of the process that holds it, or of the first."""
    jobs: dict[str, JobDocument] = {}
    for process in status.processes:
        for job in () if process.fleet is None else process.fleet["jobs"]:
            if job["name"] not in jobs or job["holding"]:
                jobs[job["name"]] = job
    return {id_of("job", name): _job(name, job, look) for name, job in sorted(jobs.items())}


def _job(name: str, job: JobDocument, look: Look) -> Html:
    if job["running_since"] is not None:
        moment = h("span", "runs, ", age(look.steady(f"runs/{name}", job["running_since"])), class_="state good")
    elif job["next_at"] is not None:
        moment = countdown(look.steady(f"job/{name}", job["next_at"]))
    else:
        moment = h("span", "another process's", class_="quiet")
    return h(
        "tr",
        h("th", cut(name, NAME_MAX), scope="row"),
        h("td", moment, data_label="Next"),
        h("td", "here" if job["holding"] else "elsewhere", data_label="Runs"),
        h("td", number(job["ticks"]), class_="figure", data_label="Ran here"),
        h("td", number(job["failures"]), class_="figure", data_label="Failed here"),
        id=id_of("job", name),
    )


def ledger_rows(status: Status) -> dict[str, Html]:
    """A row for each process that has told of it."""
    return {
        f"published-{process.number}": _ledger(process.number, publishes, view["confirms"])
        for process in status.processes
        if (view := process.fleet) is not None and (publishes := view.get("publishes")) is not None
    }


def _ledger(number_: int, publishes: PublishesDocument, confirms: MeasureDocument | None) -> Html:
    counts = () if confirms is None else confirms["counts"]
    p95 = quantile(counts, CONFIRM_BOUNDS, 0.95)
    blocked = publishes["blocked"]
    state = h("span", cut(blocked, NAME_MAX), class_="state warn") if blocked else h("span", "no", class_="quiet")
    return h(
        "tr",
        h("th", f"process {number_}", scope="row"),
        h("td", number(sum(counts)), class_="figure", data_label="Confirmed"),
        h("td", NOTHING if p95 is None else duration(p95), class_="figure", data_label="Confirm p95"),
        *[h("td", number(publishes[name]), class_="figure", data_label=name.capitalize()) for name in PUBLISHED],
        h("td", state, data_label="Blocked"),
        id=f"published-{number_}",
    )
