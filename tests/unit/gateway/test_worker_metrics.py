"""Several workers' metrics as one page that Prometheus can read."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client.parser import text_string_to_metric_families

from server.gateway.worker_metrics import WorkerMetrics, merged

ONE = (
    b'# HELP a A.\n# TYPE a gauge\na 1.0\n# HELP b B.\n# TYPE b counter\nb_total{kind="x"} 2.0\nb_created{kind="x"} 5\n'
)
TWO = b'# HELP a A.\n# TYPE a gauge\na 3.0\n# HELP b B.\n# TYPE b counter\nb_total{kind="y"} 4.0\n'


def test_samples_are_labelled_with_their_worker_and_families_stay_together() -> None:
    page = merged({"1": ONE, "2": TWO}).decode()
    assert page.count("# TYPE a gauge") == 1
    found = {
        (sample.name, sample.labels["worker"], sample.labels.get("kind")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert found == {
        ("a", "1", None): 1.0,
        ("a", "2", None): 3.0,
        ("b_total", "1", "x"): 2.0,
        ("b_created", "1", "x"): 5.0,
        ("b_total", "2", "y"): 4.0,
    }
    assert page.index("a{") < page.index("# HELP b")


async def test_each_worker_tells_for_all_and_leaves_out_the_dead() -> None:
    with TemporaryDirectory(prefix="cs-") as folder:  # a socket's path may have some hundred characters only
        one, two = WorkerMetrics(Path(folder), 1), WorkerMetrics(Path(folder), 2)
        await one.open()
        await two.open()
        assert _workers(await one.page()) == _workers(await two.page()) == {"1", "2"}
        await two.close()
        assert _workers(await one.page()) == {"1"}
        successor = WorkerMetrics(Path(folder), 2)
        await successor.open()
        assert _workers(await one.page()) == {"1", "2"}
        await successor.close()
        await one.close()
        await asyncio.sleep(0)


def _workers(page: bytes) -> set[str]:
    return {
        sample.labels["worker"] for family in text_string_to_metric_families(page.decode()) for sample in family.samples
    }
