"""Examples that are read while others are trained on."""

from anyprop.sources.ahead import Ahead as Ahead
from anyprop.sources.source import Source as Source
from anyprop.sources.stream import Stream as Stream
