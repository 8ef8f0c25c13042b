"""Everything that is done to a cluster, by name."""

from tests.chaos.faults import clients, postgres, redis, runs, workers
from tests.chaos.stage import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault for part in (workers, postgres, redis, clients, runs) for fault in part.FAULTS
}
