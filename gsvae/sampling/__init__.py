"""Gradient estimators: one file each, all behind :class:`Sampler`."""

from gsvae.sampling.base import BoundSampler, Estimate, LogLikelihood, MultiSampler, Sampler
from gsvae.sampling.decoupled import Decoupled
from gsvae.sampling.exact import Exact
from gsvae.sampling.gst import GST
from gsvae.sampling.gumbel_rao import GumbelRao
from gsvae.sampling.hard import Hard
from gsvae.sampling.muprop import MuProp
from gsvae.sampling.rebar import REBAR
from gsvae.sampling.reinmax import ReinMax
from gsvae.sampling.relax import RELAX
from gsvae.sampling.rloo import RLOO
from gsvae.sampling.soft import Soft
from gsvae.sampling.straight_through import StraightThrough
from gsvae.sampling.vimco import VIMCO
from gsvae.sampling.zgr import ZGR

__all__ = [
    "GST",
    "REBAR",
    "RELAX",
    "RLOO",
    "VIMCO",
    "ZGR",
    "BoundSampler",
    "Decoupled",
    "Estimate",
    "Exact",
    "GumbelRao",
    "Hard",
    "LogLikelihood",
    "MuProp",
    "MultiSampler",
    "ReinMax",
    "Sampler",
    "Soft",
    "StraightThrough",
]
