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
from kinema.temporal.ctnet import CT
from kinema.temporal.grouped import GST, GTE
from kinema.temporal.gsf import GSF
from kinema.temporal.gsm import GSM
from kinema.temporal.inflated import Inflated
from kinema.temporal.motion_squeeze import MotionSqueeze
from kinema.temporal.nonlocal_block import NonLocal
from kinema.temporal.se import SE
from kinema.temporal.shift import TSM
from kinema.temporal.smallbig import BigView, MaxGate
from kinema.temporal.stm import STM
from kinema.temporal.tam import TAM
from kinema.temporal.tdn import TDM
from kinema.temporal.tea import ME, MTA
from kinema.temporal.tei import MEM
from kinema.temporal.tin import TIN
from kinema.temporal.trn import TRN
from kinema.temporal.tsi import CTI, SME, TSI

__all__ = [
    "ACTION",
    "CT",
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
    "TRN",
    "TSI",
    "TSM",
    "BigView",
    "Inflated",
    "MaxGate",
    "MotionSqueeze",
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
