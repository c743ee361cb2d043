"""Test a mapper, a reducer or a policy against faults: a job on a virtual clock.

Tasks are evaluated for real, but in this process; time, workers and what goes wrong are made up.
Here the first task is refused, the worker of the second dies after half of its work, and the job
takes some seconds, which pass at once:

>>> import operator
>>> from lambdamr.testing import Crash, Throttle, simulate
>>> simulation = simulate(sum, operator.add, range(8), faults={1: Throttle(), 2: Crash(at=0.5)})
>>> simulation.value
28
>>> [invocation.end for invocation in simulation.invocations][:2]
['Throttled', 'Lost']

`Rates` draws the faults from a seed, so that a failing schedule is a line that can be repeated:

>>> from lambdamr.testing import Rates
>>> rates = Rates(crash=0.2, lose_answer=0.1, throttle=0.2, slow=0.1)
>>> {simulate(sum, operator.add, range(8), rates=rates, seed=seed).value for seed in range(20)}
{28}

``python -m lambdamr.testing --seeds 10000`` does this to lambdamr itself, with jobs and policies
that are drawn, too.
"""

from lambdamr.testing.clock import (
    DeadlockError as DeadlockError,
    EndlessError as EndlessError,
    SimulationError as SimulationError,
    VirtualClockLoop as VirtualClockLoop,
    run as run,
)
from lambdamr.testing.executor import SimulatedExecutor as SimulatedExecutor
from lambdamr.testing.faults import (
    Break as Break,
    Crash as Crash,
    Fault as Fault,
    Hang as Hang,
    LoseAnswer as LoseAnswer,
    OutOfMemory as OutOfMemory,
    Partial as Partial,
    Raise as Raise,
    Rates as Rates,
    Script as Script,
    Slow as Slow,
    Throttle as Throttle,
    TimeOut as TimeOut,
    Twice as Twice,
)
from lambdamr.testing.ledger import Ledger as Ledger
from lambdamr.testing.pool import Invocation as Invocation, SimulatedPool as SimulatedPool
from lambdamr.testing.simulation import (
    PromiseError as PromiseError,
    Simulation as Simulation,
    simulate as simulate,
)
