"""Temporal modules, which mix the frames of a clip and are independent of any backbone."""

from kinema.temporal.action import ACTION
from kinema.temporal.base import (
    POSITIONS,
    Position,
    TemporalEntry,
    TemporalModule,
    list_temporal,
    position_named,
    register,
    takes_conv,
    temporal_named,
)
from kinema.temporal.conv import TIM, TemporalConv, TemporalPool
from kinema.temporal.grouped import GST, GTE
from kinema.temporal.gsf import GSF
from kinema.temporal.gsm import GSM
from kinema.temporal.inflated import Inflated
from kinema.temporal.nonlocal_block import NonLocal
from kinema.temporal.se import SE
from kinema.temporal.shift import TSM
from kinema.temporal.stm import STM
from kinema.temporal.tam import TAM
from kinema.temporal.tdn import TDM
from kinema.temporal.tea import ME, MTA
from kinema.temporal.tei import MEM
from kinema.temporal.tin import TIN
from kinema.temporal.tsi import CTI, SME, TSI

__all__ = [
    "ACTION",
    "CTI",
    "GSF",
    "GSM",
    "GST",
    "GTE",
    "ME",
    "MEM",
    "MTA",
    "POSITIONS",
    "SE",
    "SME",
    "STM",
    "TAM",
    "TDM",
    "TIM",
    "TIN",
    "TSI",
    "TSM",
    "Inflated",
    "NonLocal",
    "Position",
    "TemporalConv",
    "TemporalEntry",
    "TemporalModule",
    "TemporalPool",
    "list_temporal",
    "position_named",
    "register",
    "takes_conv",
    "temporal_named",
]
